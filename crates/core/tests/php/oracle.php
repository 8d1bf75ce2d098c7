<?php
// Answers what PHP itself makes of each input. Input: records of one letter, a length (4 bytes,
// big-endian) and as many bytes. Output: one line for each record.
//   Q  a query: what parse_str leaves at the top level apart from arrays, as
//      "name=value" pairs in hexadecimal, separated by blanks
//   F  a text: its (float), by the shortest digits that give it back

function take(int $length): string
{
    $taken = '';
    while (strlen($taken) < $length) {
        $part = fread(STDIN, $length - strlen($taken));
        if ($part === false || $part === '') {
            exit(1);
        }
        $taken .= $part;
    }
    return $taken;
}

while (($kind = fgetc(STDIN)) !== false) {
    $input = take(unpack('N', take(4))[1]);
    if ($kind === 'F') {
        echo var_export((float) $input, true), "\n";
        continue;
    }
    $parsed = [];
    parse_str($input, $parsed);
    $pairs = [];
    foreach ($parsed as $name => $value) {
        if (is_string($value)) {
            $pairs[] = bin2hex((string) $name) . '=' . bin2hex($value);
        }
    }
    echo implode(' ', $pairs), "\n";
}
