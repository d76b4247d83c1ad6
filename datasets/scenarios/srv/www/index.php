<?php
// Front page of the shop: a product from the cache, else from the API; a session in a file.
session_start();
$_SESSION['seen'] = ($_SESSION['seen'] ?? 0) + 1;

function redis(string ...$words) {
    $socket = fsockopen('127.0.0.1', 6379, $code, $text, 1.0);
    if (!$socket) return null;
    $request = '*' . count($words) . "\r\n";
    foreach ($words as $word) $request .= '$' . strlen($word) . "\r\n$word\r\n";
    fwrite($socket, $request);
    $head = fgets($socket);
    if ($head[0] !== '$') { fclose($socket); return trim($head); }
    $length = (int) substr($head, 1);
    $body = $length < 0 ? null : fread($socket, $length);
    fclose($socket);
    return $body;
}

$id = (int) ($_GET['p'] ?? 1);
$product = redis('GET', "product:$id");
if ($product === null) {
    $product = @file_get_contents("http://127.0.0.1:8000/product/$id") ?: '{}';
    redis('SETEX', "product:$id", '20', $product);
}
$page = str_replace(['{id}', '{product}', '{seen}'], [$id, htmlspecialchars($product), $_SESSION['seen']],
    file_get_contents(__DIR__ . '/page.html'));
// The theme's name comes from the visitor and is not checked: the hole of many a shop.
$theme = $_GET['theme'] ?? 'plain';
include __DIR__ . "/themes/$theme.php";
echo $page;
