#!/bin/sh
# wine.sh start DIR    makes a wine prefix in DIR/prefix that Go programs run in, and starts its server
# wine.sh stop DIR     ends that server and everything that runs in the prefix
#
# Nothing outside DIR is touched. wine 8 has no bcryptprimitives.dll: a stand-in is built and put in.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
dir=$2
WINEPREFIX=$dir/prefix
WINEARCH=win64
WINEDEBUG=-all
WINEDLLOVERRIDES='mscoree=;mshtml=;winemenubuilder.exe=d'
export WINEPREFIX WINEARCH WINEDEBUG WINEDLLOVERRIDES
unset DISPLAY || :

server() {
    if command -v wineserver >/dev/null; then
        wineserver "$@"
    else
        /usr/lib/wine/wineserver64 "$@" # where Debian keeps it
    fi
}

case $1 in
start)
    mkdir -p "$WINEPREFIX"
    if [ ! -e "$WINEPREFIX/system.reg" ]; then # else it was kept
        wineboot -i
        server -w
    fi
    if [ ! -e "$WINEPREFIX/drive_c/windows/system32/bcryptprimitives.dll" ]; then
        x86_64-w64-mingw32-gcc -shared -o "$dir/bcryptprimitives.dll" "$here/bcryptprimitives.c" -ladvapi32
        cp "$dir/bcryptprimitives.dll" "$WINEPREFIX/drive_c/windows/system32/"
    fi
    server -p || [ $? = 2 ] # it runs already
    ;;
stop)
    server -k || :
    server -w
    ;;
*)
    echo "usage: wine.sh start|stop DIR" >&2
    exit 2
    ;;
esac
