#!/bin/sh
# The main job on MovieLens-100K: five stages, then two people are answered. BIN is where llmrec is installed.
set -eu
cd "$(dirname "$0")/.."
llmrec="${BIN:-.venv/bin}/llmrec"
experiment=experiment=movielens_100k

step() { printf '\n\033[1m$ llmrec %s\033[0m\n' "$*" >&2; "$llmrec" "$@"; }
[ -t 2 ] || step() { printf '\n$ llmrec %s\n' "$*" >&2; "$llmrec" "$@"; }

step prepare $experiment
step pretrain $experiment
# With the encoder of the stage before, not MiniLM as it came (docs/experiments.md compares), and half as many texts a
# step through its trained layers as the experiment has, so that it stays under five minutes on two cores.
step finetune $experiment encoder=pretrained head.members.tower.encoded_items=8
step evaluate $experiment
step recommend query.user_id=13
step recommend query.text='slow science fiction, about memory'
printf '\nThe report: %s\n' "$PWD/runs/evaluate/latest/report.html"
