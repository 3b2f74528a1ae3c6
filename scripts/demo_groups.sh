#!/bin/sh
# Groups, end to end, on data that anybody can get: MovieLens-100K has no groups, so prepare makes some of users with like
# histories, and says everywhere that they are synthetic. BIN is where llmrec is installed. LINKS, if set, is a file of
# item_id and entity_id: with it reasons name what films have in common in the knowledge graph.
set -eu
cd "$(dirname "$0")/.."
llmrec="${BIN:-.venv/bin}/llmrec"

step() { printf '\n\033[1m$ llmrec %s\033[0m\n' "$*" >&2; "$llmrec" "$@"; }
[ -t 2 ] || step() { printf '\n$ llmrec %s\n' "$*" >&2; "$llmrec" "$@"; }

step prepare dataset=movielens_100k dataset.name=movielens_100k_groups dataset.min_value=4 split=random \
    dataset.synthetic_groups=similar dataset.num_groups=500 'dataset.group_size=[2,8]' ${LINKS:+"dataset.links=$LINKS"}
step finetune head=group_aggregate ${LINKS:+head.members.base.features.knowledge=7}
# The baselines answer groups by their members too.
step evaluate 'baselines=[popularity,item_knn]'
step recommend query.group_id=group0 k=5 reasons=true
# People who never were a group: nothing is trained again.
step recommend 'query.members=[13,181,655]' k=5 reasons=true
printf '\nThe report: %s\nThe groups, and what of them leaks: %s\n' "$PWD/runs/evaluate/latest/report.html" \
    "$PWD/data/prepared/movielens_100k_groups/audit.html"
