<?php
// Signs a postback: php sign.php SECRET 'name=value' 'name=value' …
// Prints the query to append to the postback URL after "?". A name can be given once.

$secret = $argv[1];
$parameters = [];
foreach (array_slice($argv, 2) as $argument) {
    [$name, $value] = explode('=', $argument, 2);
    $parameters[$name] = $value;
}

ksort($parameters, SORT_STRING);
$query = http_build_query($parameters, '', '&', PHP_QUERY_RFC3986);

echo $query, '&sig=', hash_hmac('sha256', $query, $secret), "\n";
