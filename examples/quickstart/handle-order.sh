#!/bin/sh
# One order: its bytes are the standard input, its facts the environment.
set -eu
order=$(cat)
case "$order" in
*broken*)
    echo "this order cannot be handled: $order" >&2
    exit 1
    ;;
esac
echo "$JETBRIDGE_SUBJECT #$JETBRIDGE_SEQUENCE (attempt $JETBRIDGE_ATTEMPT): $order" >>handled.log
