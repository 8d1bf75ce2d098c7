<?php
// Conversions from an advertiser's own server.
//
// On the landing page, before any output:   require 'postback.php'; remember_click();
// With the order, in the same transaction:  clickid_of_visitor() goes into the order's row.
// From a queue or cron, never in the visitor's request, since it may wait for a minute:
//
//     php postback.php clickid=abc123 revenue=1.20 currency=USD txid=95832931
//
// It exits with 0 when the postback is done, 1 when it was refused (sending it again doesn't
// help), 2 when it should be sent again later. POSTBACK_URL and POSTBACK_SECRET are its settings.

declare(strict_types=1);

const ATTEMPTS = 6;
const TIMEOUT_SECONDS = 10;

/** Keeps the clickid of the landing URL for 30 days. */
function remember_click(): void
{
    $clickid = $_GET['clickid'] ?? null;
    if (is_string($clickid) && $clickid !== '' && strlen($clickid) <= 255) {
        setcookie('clickid', $clickid, [
            'expires' => time() + 30 * 86400,
            'path' => '/',
            'secure' => true,
            'httponly' => true,
            'samesite' => 'Lax',
        ]);
        $_COOKIE['clickid'] = $clickid;
    }
}

/** What to store with the order; null for a visitor who came from elsewhere. */
function clickid_of_visitor(): ?string
{
    $clickid = $_COOKIE['clickid'] ?? null;
    return is_string($clickid) && $clickid !== '' ? $clickid : null;
}

/**
 * The URL of a postback. Amounts are strings such as '1.20', made from cents and not from a float:
 * sprintf('%d.%02d', intdiv($cents, 100), $cents % 100).
 */
function postback_url(string $endpoint, array $parameters, ?string $secret = null): string
{
    ksort($parameters, SORT_STRING);
    $query = http_build_query($parameters, '', '&', PHP_QUERY_RFC3986);
    if ($secret !== null) {
        $query .= '&sig=' . hash_hmac('sha256', $query, $secret);
    }
    return $endpoint . '?' . $query;
}

/** One call: the HTTP status, or 0 where no whole answer came; the answer; the request id. */
function call(string $url): array
{
    $stream = @fopen($url, 'r', false, stream_context_create(['http' => [
        'timeout' => TIMEOUT_SECONDS,
        'ignore_errors' => true,
        // A redirect may lose the query, so it is an error and not followed.
        'follow_location' => 0,
    ]]));
    if ($stream === false) {
        return [0, null, null];
    }
    $body = stream_get_contents($stream, 65536);
    $meta = stream_get_meta_data($stream);
    fclose($stream);

    $status = 0;
    $request_id = null;
    foreach ($meta['wrapper_data'] as $header) {
        if (preg_match('~^HTTP/\S+ (\d{3})~', $header, $match)) {
            $status = (int) $match[1];
        } elseif (preg_match('~^X-Request-Id:\s*(\S+)~i', $header, $match)) {
            $request_id = $match[1];
        }
    }
    $answer = json_decode((string) $body, true);
    return [$meta['timed_out'] ? 0 : $status, is_array($answer) ? $answer : null, $request_id];
}

/** 'done', 'refused' or 'later'. */
function outcome(int $status, ?array $answer): string
{
    if ($status === 0 || $status === 408 || $status === 429 || $status >= 500) {
        return 'later';
    }
    if ($status === 200 || $status === 202) {
        // Some installations answer refusals with 200 too, so the body decides. Without one the
        // answer was cut off, or something else than the gateway gave it.
        return match ($answer['status'] ?? null) {
            'ok' => 'done',
            'error' => 'refused',
            default => 'later',
        };
    }
    return 'refused';
}

/** Sends the same URL until it is done or refused. That is safe: what was stored is a duplicate. */
function send_postback(string $url): string
{
    for ($attempt = 1; ; $attempt++) {
        [$status, $answer, $request_id] = call($url);
        $outcome = outcome($status, $answer);
        // The request id is what the operator finds the call by. The URL isn't logged: it is signed.
        error_log(sprintf(
            'postback %s: attempt %d, HTTP %d, request id %s, %s',
            $outcome,
            $attempt,
            $status,
            $request_id ?? 'none',
            json_encode($answer),
        ));
        if ($outcome !== 'later' || $attempt === ATTEMPTS) {
            return $outcome;
        }
        // 1, 2, 4, 8, 16 seconds and up to half as much again, so that many senders don't return
        // all at once.
        $pause = 2 ** ($attempt - 1) * 1_000_000;
        usleep($pause + random_int(0, intdiv($pause, 2)));
    }
}

if (PHP_SAPI === 'cli' && realpath($argv[0]) === __FILE__) {
    $parameters = [];
    foreach (array_slice($argv, 1) as $argument) {
        [$name, $value] = explode('=', $argument, 2) + [1 => ''];
        $parameters[$name] = $value;
    }
    $endpoint = getenv('POSTBACK_URL') ?: 'https://postbacks.example/v1/postback.php';
    $secret = getenv('POSTBACK_SECRET') ?: null;
    exit(['done' => 0, 'refused' => 1, 'later' => 2][
        send_postback(postback_url($endpoint, $parameters, $secret))
    ]);
}
