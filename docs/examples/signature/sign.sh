#!/bin/sh
# Signs a postback: sh sign.sh SECRET 'name=value' 'name=value' …
# Prints the query to append to the postback URL after "?". Needs openssl.

export LC_ALL=C
secret=$1
shift

# The bytes as hexadecimal digits: "a b" is 612062.
bytes() {
    printf %s "$1" | od -A n -v -t x1 | tr -d ' \n'
}

# Hexadecimal digits, percent-encoded: letters, digits and -._~ are written as themselves.
encode() {
    for byte in $(printf %s "$1" | sed 's/../& /g'); do
        case $byte in
            2d | 2e | 5f | 7e | 3[0-9] | [46][1-9a-f] | [57][0-9a])
                printf "\\$(printf %03o "0x$byte")" ;;
            *)
                printf %%%s "$byte" | tr a-f A-F ;;
        esac
    done
}

# One line for each parameter: its name for sorting, its place among equal names, and itself.
lines() {
    place=0
    for parameter in "$@"; do
        name=$(bytes "${parameter%%=*}")
        value=$(bytes "${parameter#*=}")
        place=$((place + 1))
        printf '%s %s %s=%s\n' "$name" "$place" "$(encode "$name")" "$(encode "$value")"
    done
}

query=$(lines "$@" | sort -t ' ' -k 1,1 -k 2,2n | cut -d ' ' -f 3 | paste -s -d '&' -)
sig=$(printf %s "$query" | openssl dgst -sha256 -hmac "$secret" -r | cut -d ' ' -f 1)
printf '%s&sig=%s\n' "$query" "$sig"
