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

try {
    $db = new PDO($_SERVER['BENCH_DSN'], 'postern', null, [
        PDO::ATTR_PERSISTENT => true,
        PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION,
    ]);
    // By its own name, since PDO's handles end with the request and the server's statement doesn't.
    $sql = 'EXECUTE postback(' . implode(',', array_map($db->quote(...), $values)) . ')';
    try {
        $row = $db->query($sql)->fetch(PDO::FETCH_ASSOC);
    } catch (PDOException $error) {
        if ($error->getCode() !== '26000') {
            throw $error;
        }
        $db->exec('PREPARE postback(text,numeric,text,text,text,text,text,text,text,text,text,text) AS
                   SELECT * FROM postback($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12)');
        $row = $db->query($sql)->fetch(PDO::FETCH_ASSOC);
    }
} catch (PDOException $error) {
    error_log((string) $error);
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
