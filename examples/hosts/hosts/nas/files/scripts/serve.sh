#!/bin/sh
# Makes a first page in an empty share, then serves the share.
set -eu
[ -e /shared/index.html ] || echo '<p>Nothing is shared yet.</p>' > /shared/index.html
exec httpd -f -p 8080 -h /shared
