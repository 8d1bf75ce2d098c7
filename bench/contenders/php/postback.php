<?php
// What a network of this kind runs today, written with care: one persistent connection per worker, one prepared
// statement, one round trip and one transaction for each postback, a unique key against doubles.

declare(strict_types=1);

header('Content-Type: application/json');
header('Cache-Control: no-store');

function answer(int $code, array $body): never
{
    $json = json_encode($body, JSON_UNESCAPED_SLASHES);
    http_response_code($code);
    header('Content-Length: ' . strlen($json));
    echo $json;
    exit;
}

function first(array $names): string
{
    foreach ($names as $name) {
        $value = $_POST[$name] ?? $_GET[$name] ?? '';
        if (is_string($value) && trim($value) !== '') {
            return trim($value);
        }
    }
    return '';
}

$clickid = first(['clickid', 'click_id']);
if ($clickid === '') {
    answer(400, ['status' => 'error', 'error' => 'missing_clickid', 'message' => 'clickid parameter is required']);
}
$revenue = first(['revenue', 'payout', 'cost']) ?: '0';
if (!is_numeric($revenue) || $revenue < 0) {
    answer(400, ['status' => 'error', 'error' => 'invalid_revenue', 'message' => 'revenue is not a number']);
}
$values = [
    $clickid,
    $revenue,
    substr(strtoupper(first(['currency']) ?: 'USD'), 0, 3),
    first(['txid', 'tid', 'transaction_id']),
    $_GET['subid0'] ?? '',
    $_GET['subid1'] ?? '',
    $_GET['subid2'] ?? '',
    $_GET['subid3'] ?? '',
    $_GET['subid4'] ?? '',
    $_SERVER['QUERY_STRING'] ?? '',
    $_SERVER['REMOTE_ADDR'] ?? '',
    $_SERVER['HTTP_USER_AGENT'] ?? '',
];

/** One round trip; the statement stays prepared as long as the worker's connection lives. */
function decide(array $values): array|false
{
    $db = pg_pconnect($_SERVER['BENCH_DSN']);
    if ($db === false) {
        return false;
    }
    pg_send_execute($db, 'postback', $values);
    $result = pg_get_result($db);
    if (pg_result_error_field($result, PGSQL_DIAG_SQLSTATE) === '26000') {
        pg_get_result($db);
        pg_prepare($db, 'postback', 'SELECT * FROM postback($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12)');
        $result = pg_execute($db, 'postback', $values);
    }
    $row = $result === false ? false : pg_fetch_assoc($result);
    if ($row === false) {
        error_log(pg_last_error($db));
    }
    return $row;
}

$row = decide($values);
if ($row === false) {
    answer(500, ['status' => 'error', 'error' => 'internal_error', 'message' => 'Unexpected server error']);
}

if ($row['outcome'] === 'click_not_found') {
    answer(404, [
        'status' => 'error',
        'error' => 'click_not_found',
        'message' => 'Click with this clickid was not found',
    ]);
}
$body = ['status' => 'ok'];
if ($row['outcome'] === 'duplicate') {
    $body += ['note' => 'duplicate', 'message' => 'Conversion for this clickid already exists'];
}
$amount = (float) $row['revenue'];
$body += [
    'clickid' => $clickid,
    'campaign_id' => (int) $row['campaign_id'],
    'revenue' => $amount == (int) $amount ? (int) $amount : $amount,
    'currency' => $row['currency'],
];
if ($row['outcome'] === 'converted') {
    $body['created_at'] = $row['created_at'];
}
answer(200, $body);
