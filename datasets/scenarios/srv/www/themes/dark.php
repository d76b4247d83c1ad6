<?php $page = str_replace("{theme}", "dark", $page);
