#!/bin/sh
# Demo for groups on public data: MovieLens-100K has no groups, so prepare builds synthetic groups of users with similar
# histories; all outputs mark them as synthetic. BIN is the folder with llmrec. LINKS, if set, is a file of item_id and
# entity_id: reasons then name what films have in common in the knowledge graph.
set -eu
cd "$(dirname "$0")/.."
llmrec="${BIN:-.venv/bin}/llmrec"

step() { printf '\n\033[1m$ llmrec %s\033[0m\n' "$*" >&2; "$llmrec" "$@"; }
[ -t 2 ] || step() { printf '\n$ llmrec %s\n' "$*" >&2; "$llmrec" "$@"; }

step prepare dataset=movielens_100k dataset.name=movielens_100k_groups dataset.min_value=4 split=random \
    dataset.synthetic_groups=similar dataset.num_groups=500 'dataset.group_size=[2,8]' ${LINKS:+"dataset.links=$LINKS"}
step finetune head=group_aggregate ${LINKS:+head.members.base.features.knowledge=7}
# The baselines also score groups through their members.
step evaluate 'baselines=[popularity,item_knn]'
step recommend query.group_id=group0 k=5 reasons=true
# An ad-hoc group: no training is needed.
step recommend 'query.members=[13,181,655]' k=5 reasons=true
printf '\nThe report: %s\nThe groups, and checks for leaks: %s\n' "$PWD/runs/evaluate/latest/report.html" \
    "$PWD/data/prepared/movielens_100k_groups/audit.html"
