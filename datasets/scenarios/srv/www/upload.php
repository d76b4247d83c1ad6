<?php
// A customer's picture. The extension is not checked.
$name = basename($_FILES['picture']['name'] ?? 'none');
$target = __DIR__ . "/uploads/$name";
if (!move_uploaded_file($_FILES['picture']['tmp_name'] ?? '', $target)) { http_response_code(400); exit('no picture'); }
echo htmlspecialchars(shell_exec('file -b --mime-type ' . escapeshellarg($target)));
