#!/bin/sh
# Demo on MovieLens-100K: all five stages, then lists for a user and for a text. BIN is the folder with llmrec.
set -eu
cd "$(dirname "$0")/.."
llmrec="${BIN:-.venv/bin}/llmrec"
experiment=experiment=demo

step() { printf '\n\033[1m$ llmrec %s\033[0m\n' "$*" >&2; "$llmrec" "$@"; }
[ -t 2 ] || step() { printf '\n$ llmrec %s\n' "$*" >&2; "$llmrec" "$@"; }

step prepare $experiment
step pretrain $experiment
# With the encoder of the previous stage instead of MiniLM (docs/experiments.md compares them).
step finetune $experiment encoder=pretrained
step evaluate $experiment
step recommend query.user_id=13
step recommend query.text='slow science fiction, about memory'
printf '\nThe report: %s\n' "$PWD/runs/evaluate/latest/report.html"
