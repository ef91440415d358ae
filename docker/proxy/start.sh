#!/bin/sh
# Starts nginx with the settings of this installation; arguments go to nginx (-t: only looks).
#
#   USER_API, ADMIN_API         the web servers, as host:port
#   MAX_UPLOAD_MB, FILE_MAX_MB  what the web servers take, too
#   CERTIFICATES                a folder with fullchain.pem and privkey.pem: HTTPS; none: plain HTTP
#   HTTP_PORT                   users; with certificates, it sends them on to HTTPS
#   HTTPS_PORT, ADMIN_PORT      users, with certificates; the console, with or without
#   HTTPS_ADDRESS               where people reach HTTPS_PORT: an address or a port alone
#   FOLDER                      for what nginx writes
set -eu
here="$(dirname "$0")"
folder="${FOLDER:-/tmp/proxy}"
certificates="${CERTIFICATES:-/certificates}"
upload="${MAX_UPLOAD_MB:-100}" file="${FILE_MAX_MB:-512}"
http="${HTTP_PORT:-8000}" https="${HTTPS_PORT:-8443}" admin="${ADMIN_PORT:-8444}"
public="${HTTPS_ADDRESS:-443}"
public="${public##*:}"

for number in "$upload" "$file" "$http" "$https" "$admin" "$public"; do
    case "$number" in
        '' | *[!0-9]*)
            echo "proxy: '$number' is not a whole number (MAX_UPLOAD_MB, FILE_MAX_MB and ports are)" >&2
            exit 2
            ;;
    esac
done

users="$http" tls="" redirect=""
if [ -e "$certificates/fullchain.pem" ]; then
    users="$https ssl http2" admin="$admin ssl http2"
    tls="ssl_certificate $certificates/fullchain.pem; ssl_certificate_key $certificates/privkey.pem;"
    tls="$tls ssl_protocols TLSv1.2 TLSv1.3; ssl_session_cache shared:tls:4m; ssl_session_tickets off;"
    port=":$public"
    if [ "$public" = 443 ]; then port=""; fi
    redirect="server { listen $http; return 308 https://\$host$port\$request_uri; }"
else
    echo "proxy: no fullchain.pem in $certificates, so plain HTTP it is" >&2
fi
# The resolver of the container (Docker's own, which knows the services); IPv6 wants brackets.
resolver="$(awk '$1 == "nameserver" { print ($2 ~ /:/) ? "[" $2 "]" : $2; exit }' /etc/resolv.conf)"
if [ -n "$resolver" ]; then resolver="resolver $resolver valid=5s;"; fi

mkdir -p "$folder"
for name in nginx.conf refusals.conf; do
    # A margin as the web servers have it: a multipart body is larger than the file in it.
    sed -e "s|@FOLDER@|$folder|g" -e "s|@USER_API@|${USER_API:-user-api:8010}|" \
        -e "s|@ADMIN_API@|${ADMIN_API:-admin-api:8010}|" -e "s|@USERS@|$users|" \
        -e "s|@ADMIN@|$admin|" -e "s|@TLS@|$tls|" -e "s|@REDIRECT@|$redirect|" \
        -e "s|@RESOLVER@|$resolver|" -e "s|@UPLOAD_MB@|$upload|" -e "s|@FILE_MB@|$file|" \
        -e "s|@UPLOAD_BYTES@|$((upload * 1048576 + 65536))|" \
        -e "s|@FILE_BYTES@|$((file * 1048576 + 65536))|" "$here/$name" > "$folder/$name"
done
exec nginx -e stderr -c "$folder/nginx.conf" "$@"
