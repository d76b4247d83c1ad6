<?php $page = str_replace("{theme}", "plain", $page);
