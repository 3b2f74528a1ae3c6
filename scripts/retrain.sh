#!/bin/sh
# Train again on the newest data and publish the result; on failure, change nothing. For any POSIX shell.
#
#   scripts/retrain.sh <publish folder> [experiment=<name>]     in a checkout
#   llmrec-retrain <publish folder> [experiment=<name>]         the same script, of an installed llmrec
#
# Runs in the current folder, one run at a time: prepare, pretrain (if PRETRAIN is set), finetune, evaluate on the
# held-out interactions, finetune again on all interactions, recommend. If all succeed, <publish folder>/current is
# switched, by one rename, to a new folder with
#
#   recommendations.parquet, recommendations.parquet.manifest.json    lists for every user
#   metrics.json, report.html                                         evaluation on the held-out interactions
#   model/                                                            the model of the lists
#
# A reader that opens <publish folder>/current once and reads from there never sees a mix of two versions.
#
# Environment variables (no others are needed, not even PATH):
#   PREPARE, PRETRAIN, FINETUNE, EVALUATE, RECOMMEND   settings of each command, quoted if they contain spaces:
#                   PREPARE="dataset=files dataset.interactions='/data/all clicks.csv' split=temporal"
#                   PREPARE or experiment=<name> is required, to name the data
#   REFIT=all       publish a model fitted on all interactions, including the held-out ones; training takes twice as
#                   long. REFIT=none publishes the evaluated model
#   KEEP=7          number of published versions, and of this script's runs under runs/, to keep
#   WAIT=600        seconds to wait while another llmrec writes the same data, for example one that outlived its script
#                   or was started by hand. Its process, start and command are printed
#   LLMREC          the command; default: .venv/bin/llmrec next to this script's folder, else llmrec on the PATH. For
#                   llmrec-retrain: the llmrec beside it
#
# Exit codes: 0 published; 75 another run holds a lock; 2 wrong usage; 5 no lock available, or cannot write; else the
# exit code of the failed command. Nothing is published unless the code is 0. make turns all other codes into 2, so a
# scheduler that reads the code must run this script and not `make retrain`.
#
# SIGTERM, SIGINT and SIGHUP end the running command, and the script waits for it. If the script is killed by SIGKILL,
# the kernel ends the command (setpriv of util-linux). Without setpriv the command continues; it publishes nothing, and
# the next run waits for it (WAIT).
#
# In a crontab each % must be written \%:
#   0 3 * * *  cd /srv/shop && PREPARE="dataset=files ..." /srv/llmrec/scripts/retrain.sh published 2>>retrain.log
#   0 3 * * *  cd /srv/shop && PREPARE="dataset=files ..." /srv/llmrec/.venv/bin/llmrec-retrain published 2>>retrain.log
set -eu
PATH=${PATH:-/usr/local/bin:/usr/bin:/bin}
export PATH

say() { printf 'retrain: %s\n' "$*" >&2; }
fail() { code=$1; shift; say "$*"; exit "$code"; }

folder=${1:-}
case $folder in
    -h | --help) sed -n '2,/^set /s/^# \{0,1\}//p' "$0"; exit 0 ;;
    '' | -*) fail 2 "usage: $0 <publish folder> [experiment=<name>]" ;;
    *=*) fail 2 "$folder: the publish folder comes first" ;;
esac
shift
experiment=
for word in "$@"; do
    case $word in
        experiment=?*) experiment=$word ;;
        *) fail 2 "$word: only experiment=<name> is accepted here; put settings of a command into PREPARE, PRETRAIN," \
            "FINETUNE, EVALUATE or RECOMMEND" ;;
    esac
done
case ${PREPARE:-}$experiment in
    *[![:space:]]*) ;;
    *) fail 2 "PREPARE: not set, so the data is unknown; set PREPARE=\"dataset=files dataset.name=<name>" \
        "dataset.interactions=<file>\" (llmrec prepare --help lists more), or give experiment=<name>" ;;
esac
refit=${REFIT:-all} keep=${KEEP:-7} patience=${WAIT:-600}
case $refit in all | none) ;; *) fail 2 "REFIT=$refit: choose one of all, none" ;; esac
case $keep in '' | *[!0-9]* | 0*) fail 2 "KEEP=$keep: must be a whole number, at least 1" ;; esac
case $patience in *[!0-9]* | 0?*) fail 2 "WAIT=$patience: must be a whole number of seconds, at least 0" ;; esac

# A lock of the kernel, released when its holder ends, also when killed. No command inherits it, so an orphaned command
# of a killed run does not hold it. Such an orphan cannot publish either: only this script does.
command -v flock >/dev/null || fail 5 "flock is not installed (Debian: util-linux), which is needed to keep runs apart"
mkdir -p -- "$folder" || fail 5 "$folder: cannot be created; choose another publish folder"
[ -w "$folder" ] || fail 5 "$folder: cannot be written"
exec 9>>"$folder/.lock"
code=0; flock -n -E 75 9 2>/dev/null || code=$?
if [ "$code" -eq 75 ]; then
    holder=$(head -n 1 "$folder/.lock")
    fail 75 "$folder: another run holds the lock; wait for it to end${holder:+, or end $holder}"
fi
[ "$code" -eq 0 ] || fail 5 "$folder: this file system does not support locks (flock exits $code); choose another" \
    "publish folder"
code=0; (exec 8>>"$folder/.lock"; flock -n -E 75 8) 2>/dev/null || code=$?
[ "$code" -eq 75 ] || fail 5 "$folder: locks of this file system do not exclude other processes; choose another" \
    "publish folder"

if [ -e "$folder/current" ] && [ ! -L "$folder/current" ]; then
    fail 2 "$folder/current: is a file or folder, but must be a link; choose another publish folder"
fi
beside=$(cd -- "$(dirname -- "$0")/.." && pwd)/.venv/bin/llmrec
llmrec=${LLMREC:-}
[ -n "$llmrec" ] || { [ -x "$beside" ] && llmrec=$beside; } || llmrec=llmrec
command -v -- "$llmrec" >/dev/null || fail 2 "$llmrec: no such command; install llmrec or set LLMREC=<its path>"
# A prefix that ends a command when this script is killed.
bound=
! setpriv --pdeathsig TERM true 2>/dev/null || bound='setpriv --pdeathsig TERM --'

# An unused name for version and runs, reserved by creating the folder of the first run.
mkdir -p runs/prepare || fail 5 "runs/prepare: cannot be created; start in a writable folder"
for _ in 1 2 3 4 5; do
    stamp=$(date +%Y-%m-%d_%H-%M-%S)
    [ -e "$folder/$stamp" ] || ! mkdir "runs/prepare/retrain-prepare-$stamp" 2>/dev/null || break
    sleep 1
    stamp=
done
[ -n "$stamp" ] || fail 5 "runs/prepare: cannot create a folder for the run"
# Named after the run, so that files of an orphan of another run do not get into this version.
building=$folder/.building.$stamp
child=
clean() { rm -rf -- "$folder"/.building.* "$folder/.current.new"; : >"$folder/.lock"; }
stop() {
    trap '' INT TERM HUP
    [ -z "$child" ] || { kill -TERM "$child" 2>/dev/null || true; wait "$child" || true; }
    exit "$1"
}
trap clean EXIT
trap 'stop 129' HUP
trap 'stop 130' INT
trap 'stop 143' TERM
clean
printf 'process %s on %s since %s: %s\n' $$ "$(uname -n)" "$(date '+%Y-%m-%d %H:%M:%S')" "$0 $folder" >"$folder/.lock"
mkdir -- "$building"

# follow <command...>: run a command and set `code` to its exit code. It runs in the background, so that signals are
# passed on at once and not after its end.
follow() {
    "$@" 9>&- </dev/null &
    child=$!
    code=0; wait "$child" || code=$?
    child=
}

# stage <command> <name of the run> <value of its variable> <settings...>: run a command; later settings win.
stage() {
    stage=$1 name=$2 variable=$3 run=runs/$1/retrain-$2-$stamp
    shift 3
    num_ours=$#
    if [ -n "$variable" ]; then
        words=$(printf '%s' "$variable" | xargs printf '%s\n') ||
            fail 2 "$(printf %s "$stage" | tr a-z A-Z): a quote is not closed: $variable"
        while IFS= read -r word; do
            [ -z "$word" ] || set -- "$@" "$word"
        done <<EOF
$words
EOF
    fi
    # Settings of this script come after those of the variable.
    while [ "$num_ours" -gt 0 ]; do
        set -- "$@" "$1"
        shift
        num_ours=$((num_ours - 1))
    done
    say "$name"
    waited=0 pause=1
    while :; do
        follow $bound "$llmrec" "$stage" ${experiment:+"$experiment"} "$@" "run_dir=$run"
        if [ "$code" -ne 75 ] || [ "$waited" -ge "$patience" ]; then break; fi
        say "$name: trying again in $pause s, for at most $((patience - waited)) s (WAIT)"
        follow sleep "$pause"
        waited=$((waited + pause)) pause=$((pause < 32 ? pause * 2 : 60))
        rm -rf -- "$run"
        mkdir -- "$run"
    done
    [ "$code" -eq 0 ] || fail "$code" "$name failed with exit code $code; nothing was published"
}

# same_data <fingerprint>: fail if the prepared data changed during this run.
same_data() {
    [ "$(fingerprint "$prepared/manifest.json")" = "$1" ] ||
        fail 4 "$prepared: was prepared again by another run meanwhile; nothing was published"
}
fingerprint() { sed -n 's/^ *"fingerprint": *"\([0-9a-f]*\)".*/\1/p' "$1" | head -n 1; }

# prune <folder> <prefix>: keep the newest by name, and always the published version, even if the clock was wrong.
prune() {
    published=$(readlink "$folder/current")
    find "$1" -mindepth 1 -maxdepth 1 -type d -name "$2[0-9][0-9][0-9][0-9]-*" | sed 's|.*/||' | sort -r |
        tail -n "+$((keep + 1))" | while IFS= read -r old; do
            [ "$old" = "$2$published" ] || rm -rf -- "${1:?}/$old"
        done
}

runs=runs/finetune/retrain
stage prepare prepare "${PREPARE:-}"
prepared=$(readlink data/prepared/latest)
case $prepared in /*) ;; *) prepared=data/prepared/$prepared ;; esac
data=$(fingerprint "runs/prepare/retrain-prepare-$stamp/manifest.json")
same_data "$data"
encoder=
if [ -n "${PRETRAIN:-}" ]; then
    stage pretrain pretrain "$PRETRAIN" "prepared=$prepared"
    encoder=runs/pretrain/retrain-pretrain-$stamp
fi
stage finetune finetune "${FINETUNE:-}" ${encoder:+encoder=pretrained "encoder.path=$encoder"} "prepared=$prepared" \
    refit=train_valid
stage evaluate evaluate "${EVALUATE:-}" "model=$runs-finetune-$stamp" "prepared=$prepared"
published_run=finetune
if [ "$refit" = all ]; then
    stage finetune refit "${FINETUNE:-}" ${encoder:+encoder=pretrained "encoder.path=$encoder"} "prepared=$prepared" \
        refit=all
    published_run=refit
fi
same_data "$data"
stage recommend recommend "queries=all k=100 ${RECOMMEND:-}" "model=$runs-$published_run-$stamp" \
    "output=$building/recommendations.parquet"

say "publish"
evaluated=runs/evaluate/retrain-evaluate-$stamp
cp -- "$evaluated/metrics.json" "$evaluated/report.html" "$building/" &&
    cp -R -- "$runs-$published_run-$stamp/model" "$building/model" &&
    sync -f "$building" || fail 5 "$folder: cannot be written; nothing was published"
mv -T -- "$building" "$folder/$stamp"
ln -s -- "$stamp" "$folder/.current.new"
mv -T -- "$folder/.current.new" "$folder/current"
sync -f "$folder"
prune "$folder" ""
for run in prepare-prepare pretrain-pretrain finetune-finetune finetune-refit evaluate-evaluate recommend-recommend; do
    [ ! -d "runs/${run%%-*}" ] || prune "runs/${run%%-*}" "retrain-${run#*-}-"
done
say "published $folder/current -> $stamp"
