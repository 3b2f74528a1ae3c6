#!/usr/bin/env bash
# Train again on the newest data and publish, or change nothing.
#
#   scripts/retrain.sh <publish folder> [experiment=<name>]
#
# prepare, pretrain (if PRETRAIN is set), finetune, evaluate on what is held out, finetune again on everything,
# recommend: in the current folder, one run at a time. When all went well <publish folder>/current is pointed, by one
# rename, at a new folder with
#
#   recommendations.parquet, recommendations.parquet.manifest.json    lists for every user
#   metrics.json, report.html                                         how good the held-out days say they are
#   model/                                                            what made the lists
#
# A reader that opens <publish folder>/current once and reads from there never sees a mix of two versions.
#
# Environment:
#   PREPARE, PRETRAIN, FINETUNE, EVALUATE, RECOMMEND   settings of each command, in quotes where there are spaces:
#                   PREPARE="dataset=files dataset.interactions='/data/all clicks.csv' split=temporal"
#   REFIT=all       publish a model fitted on everything, held-out days too; the training is paid for twice.
#                   REFIT=none publishes the very model that was evaluated
#   KEEP=7          published versions, and runs of ours under runs/, that are kept
#   LLMREC          the command; else .venv/bin/llmrec beside this script's folder, else llmrec on the PATH
#
# Exit codes: 0 published; 75 another run holds the lock; 2 wrong usage; 5 no lock to be had, or no room to write;
# else that of the command that failed. Nothing is published unless it is 0.
#
# From cron:  0 3 * * *  cd /srv/shop && PREPARE="dataset=files ..." /srv/llmrec/scripts/retrain.sh published
set -eu

say() { printf 'retrain: %s\n' "$*" >&2; }
fail() { code=$1; shift; say "$*"; exit "$code"; }

folder=${1:-}
case $folder in
    '' | -*) fail 2 "usage: $0 <publish folder> [experiment=<name>]" ;;
    *=*) fail 2 "$folder: the publish folder comes first" ;;
esac
shift
for word in "$@"; do
    case $word in
        experiment=*) ;;
        *) fail 2 "$word: only experiment=<name> is taken here; settings of one command go into PREPARE, PRETRAIN," \
            "FINETUNE, EVALUATE or RECOMMEND" ;;
    esac
done
refit=${REFIT:-all} keep=${KEEP:-7}
case $refit in all | none) ;; *) fail 2 "REFIT=$refit: choose one of all, none" ;; esac
case $keep in '' | *[!0-9]* | 0*) fail 2 "KEEP=$keep: must be a whole number, at least 1" ;; esac

# The kernel's lock: free again the moment its holder is gone, however it went. No command inherits it, so an orphan
# of a killed run does not hold it; such an orphan cannot publish either, for only this script does.
command -v flock >/dev/null || fail 5 "flock is not installed (Debian: util-linux), so two runs could not be kept apart"
mkdir -p -- "$folder" || fail 5 "$folder: cannot be made; choose another publish folder"
[ -w "$folder" ] || fail 5 "$folder: cannot be written"
exec 9>>"$folder/.lock"
code=0; flock -n -E 75 9 2>/dev/null || code=$?
[ "$code" -ne 75 ] || fail 75 "$folder: another run holds the lock; wait for it to end"
[ "$code" -eq 0 ] || fail 5 "$folder: this file system has no locks (flock exits $code); publish somewhere else"
code=0; (exec 8>>"$folder/.lock"; flock -n -E 75 8) 2>/dev/null || code=$?
[ "$code" -eq 75 ] || fail 5 "$folder: this file system's locks do not keep others out; publish somewhere else"

if [ -e "$folder/current" ] && [ ! -L "$folder/current" ]; then
    fail 2 "$folder/current: is a file or folder, and publishing replaces a link of this name; choose another folder"
fi
beside=$(cd -- "$(dirname -- "$0")/.." && pwd)/.venv/bin/llmrec
llmrec=${LLMREC:-}
[ -n "$llmrec" ] || { [ -x "$beside" ] && llmrec=$beside; } || llmrec=llmrec
command -v -- "$llmrec" >/dev/null || fail 2 "$llmrec: no such command; install llmrec or set LLMREC=<its path>"

# A name that no version and no run has, taken by making the first run's folder.
mkdir -p runs/prepare || fail 5 "runs/prepare: cannot be made; start in a folder that can be written"
for _ in 1 2 3 4 5; do
    stamp=$(date +%Y-%m-%d_%H-%M-%S)
    [ -e "$folder/$stamp" ] || ! mkdir "runs/prepare/retrain-prepare-$stamp" 2>/dev/null || break
    sleep 1
    stamp=
done
[ -n "$stamp" ] || fail 5 "runs/prepare: no folder for the run could be made in it"
building=$folder/.building
child=
clean() { rm -rf -- "$building" "$folder/.current.new"; }
stop() { trap '' INT TERM; [ -z "$child" ] || { kill -TERM "$child" 2>/dev/null || true; wait "$child" || true; }; exit "$1"; }
trap clean EXIT
trap 'stop 130' INT
trap 'stop 143' TERM
clean
mkdir -- "$building"

# stage <command> <name of the run> <its variable's value> <settings...>: run a command; later settings win.
stage() {
    local command=$1 name=$2 given=$3 words=() parsed
    shift 3
    if [ -n "$given" ]; then
        parsed=$(printf '%s' "$given" | xargs printf '%s\n') || fail 2 "${command^^}: a quote is not closed: $given"
        mapfile -t words <<<"$parsed"
    fi
    say "$name"
    # In the background, so that a signal is passed on at once and not when the command has ended.
    "$llmrec" "$command" "${experiment[@]}" ${words[@]+"${words[@]}"} "$@" "run_dir=runs/$command/retrain-$name-$stamp" \
        9>&- </dev/null &
    child=$!
    code=0; wait "$child" || code=$?
    child=
    [ "$code" -eq 0 ] || fail "$code" "$name failed with exit code $code; nothing was published"
}

# same_data <fingerprint>: refuse to go on when the prepared data changed under this run.
same_data() {
    local now
    now=$(fingerprint "$prepared/manifest.json")
    [ "$now" = "$1" ] || fail 4 "$prepared: was prepared again by somebody else meanwhile; nothing was published"
}
fingerprint() { sed -n 's/^ *"fingerprint": *"\([0-9a-f]*\)".*/\1/p' "$1" | head -n 1; }

# prune <folder> <prefix>: keep the newest by name; what is published now stays in any case, whatever the clock said.
prune() {
    local now name
    now=$(readlink "$folder/current")
    find "$1" -mindepth 1 -maxdepth 1 -type d -name "$2[0-9][0-9][0-9][0-9]-*" -printf '%f\n' | sort -r |
        tail -n "+$((keep + 1))" | while IFS= read -r name; do
            [ "$name" = "$2$now" ] || rm -rf -- "${1:?}/$name"
        done
}

experiment=("$@")
runs=runs/finetune/retrain
stage prepare prepare "${PREPARE:-}"
prepared=$(realpath --relative-to=. data/prepared/latest)
data=$(fingerprint "runs/prepare/retrain-prepare-$stamp/manifest.json")
same_data "$data"
encoder=()
if [ -n "${PRETRAIN:-}" ]; then
    stage pretrain pretrain "$PRETRAIN" "prepared=$prepared"
    encoder=(encoder=pretrained "encoder.path=runs/pretrain/retrain-pretrain-$stamp")
fi
stage finetune finetune "${FINETUNE:-}" ${encoder[@]+"${encoder[@]}"} "prepared=$prepared" refit=train_valid
stage evaluate evaluate "${EVALUATE:-}" "model=$runs-finetune-$stamp" "prepared=$prepared"
chosen=finetune
if [ "$refit" = all ]; then
    stage finetune refit "${FINETUNE:-}" ${encoder[@]+"${encoder[@]}"} "prepared=$prepared" refit=all
    chosen=refit
fi
same_data "$data"
stage recommend recommend "queries=all k=100 ${RECOMMEND:-}" "model=$runs-$chosen-$stamp" \
    "output=$building/recommendations.parquet"

say "publish"
evaluated=runs/evaluate/retrain-evaluate-$stamp
cp -- "$evaluated/metrics.json" "$evaluated/report.html" "$building/" &&
    cp -R -- "$runs-$chosen-$stamp/model" "$building/model" &&
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
