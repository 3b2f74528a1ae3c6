"""Chinese phrases of the evaluation report."""

EVALUATION = {
    "(better) and": "（更好）和",
    "(worse) mark intervals that exclude 0. p is from a two-sided paired t-test, corrected for the "
    "number of recommenders (Holm) but not for the number of metrics. Coverage and gini are computed "
    "over all lists together, so they have no interval over {audience}.":
        "（更差）标出不含 0 的区间。p 值来自双侧配对 t 检验，按推荐器个数作 Holm 校正，未按指"
        "标个数校正。coverage 和 gini 由全部列表一起计算，因此没有按{audience}的区间。",
    "1 interaction": "1 次交互",
    "95%, bootstrap with {num:,} resamples of the {audience}": "95%，对{audience}自助重采样 {num:,} 次",
    "A recommender that is further up is more accurate; one that is further right recommends more of the "
    "catalogue, or more of its long tail. Numbers are ranks on the leaderboard; bars are 95% intervals.":
        "越靠上越准确；越靠右，推荐的物品目录或长尾物品越多。数字是排行榜上的名次，竖线是 95% 置"
        "信区间。",
    "A salted hash orders equal times.": "时间相同的交互按加盐哈希排序。",
    "Accuracy against coverage": "准确性与覆盖率",
    "Baselines": "基线",
    "Baselines are fitted on the same interactions as the model and rank the same items.":
        "基线与模型使用相同的训练交互，并对相同的物品排序。",
    "Candidate file": "候选文件",
    "Candidates": "候选物品",
    "Cold-start users": "冷启动用户",
    "Comparison of {models} models and 1 baseline on {data}": "{models} 个模型与 1 个基线在 {data} 上的比较",
    "Comparison of {models} models and {baselines} baselines on {data}":
        "{models} 个模型与 {baselines} 个基线在 {data} 上的比较",
    "Comparison of {models} models on {data}": "{models} 个模型在 {data} 上的比较",
    "Contribution of the knowledge graph": "知识图谱的贡献",
    "Data": "数据",
    "Data, model and evaluation": "数据、模型与评估",
    "Differences are paired {owner} by {owner}.": "差值按{owner}逐一配对（每个{owner}一对）。",
    "Diversity": "多样性",
    "Each dot is a mean over {audience}, each bar its 95% interval (bootstrap over {audience}).":
        "每个点是对{audience}的均值，横线是其 95% 置信区间（对{audience}自助重采样）。",
    "Each item, most popular first": "各物品，按热门程度排列",
    "Encoders": "编码器",
    "Evaluation": "评估",
    "Evaluation of {model} on {data}": "{model} 在 {data} 上的评估",
    "Example {audience} with the lists of {model}": "{audience}示例：{model} 的列表",
    "Exposure by {column}": "按 {column} 的曝光",
    "Fingerprint": "数据指纹",
    "Fitted on": "拟合所用",
    "Fitted with": "拟合时使用",
    "For each row, the head is fitted again on the training interactions with the tuned settings and "
    "measured on validation; the test split is not used. \"Lost\" is the metric with all knowledge minus "
    "the metric of the row; differences are paired user by user. If swapped knowledge is as good as the "
    "item's own, the gain does not come from the knowledge.":
        "每一行都用调好的设置在训练交互上重新拟合，并在验证集上测量；不使用测试集。“损失”是使"
        "用全部知识时的指标减去该行的指标；差值按用户配对。如果换成别的物品的知识同样有效，增"
        "益就不是来自知识本身。",
    "For each value of {column}: its share of the places on the lists of {model} (top places count "
    "more), next to its share of the catalogue, of the training interactions and of the held-out items.":
        "{column} 的每个取值在 {model} 的列表位置中所占的份额（靠前的位置权重更大），与它在物"
        "品目录、训练交互和留出物品中的份额对照。",
    "For {share:.0%} of the {audience} every item has {score}, so their lists are random.":
        "{share:.0%} 的{audience}的所有物品得分都相同（{score}），因此其列表是随机的。",
    "Given": "给定",
    "Glossary of metrics": "指标词汇表",
    "Green": "绿色",
    "Group": "群组",
    "Groups": "群组",
    "Groups: no training interactions": "群组：没有训练交互",
    "Groups: third with the longest histories": "群组：历史最长的三分之一",
    "Groups: third with the shortest histories": "群组：历史最短的三分之一",
    "Head": "推荐头",
    "Held out": "留出",
    "Held-out items found": "找到的留出物品",
    "Histories": "历史",
    "History": "历史",
    "Hits in a list of {k}": "{k} 个位置中的命中数",
    "In a slice of items, only items of the slice count as relevant. Compare a slice with the same slice "
    "of another model, not with other slices.":
        "在物品分组中，只有组内物品算相关物品。请与另一模型的同一分组比较，不要与其他分组比较"
        "。",
    "Interactions": "交互",
    "Intervals": "置信区间",
    "Item": "物品",
    "Items": "物品",
    "Items recommended by {model}": "{model} 推荐的物品",
    "Items: in training": "物品：出现在训练集中",
    "Items: most popular 5%": "物品：最热门的 5%",
    "Items: next 15%": "物品：其次的 15%",
    "Items: not in training": "物品：未出现在训练集中",
    "Items: other 80%": "物品：其余 80%（长尾）",
    "Leaderboard": "排行榜",
    "Mean, 95% interval": "均值，95% 置信区间",
    "Means over the same {queries}, with 95% intervals. Recommenders with a common letter (second "
    "column) do not differ significantly in {metric} (paired t-tests of all pairs, corrected for the "
    "number of pairs, Holm). Bold: {model}, the model that this page is about.":
        "对相同的 {queries}取均值，附 95% 置信区间。有共同字母（第二列）的推荐器在 {metric} "
        "上没有显著差异（两两配对 t 检验，按对数作 Holm 校正）。粗体：本页所述的模型 {model}。",
    "Means with 95% intervals of {models} for {metrics}": "{models} 的 {metrics}：均值与 95% 置信区间",
    "Metrics of {model}": "{model} 的指标",
    "Metrics of {model} by slice": "{model} 的分组指标",
    "Model": "模型",
    "Models by slice": "各模型的分组指标",
    "Name": "名称",
    "No held-out item is in training, and none was recommended: heads that use only interactions rank "
    "such items last. Use a head that reads attributes or texts: content, two_tower, or ease with "
    "head.features.attributes=3.":
        "留出物品都不在训练集中，也没有一个被推荐：只用交互的推荐头把这类物品排在最后。请使用"
        "读取属性或文本的推荐头：content、two_tower，或带 head.features.attributes=3 的 "
        "ease。",
    "No training curves: the model was not trained in steps, or the log of its run is missing.":
        "没有训练曲线：模型不是分步训练的，或其运行日志缺失。",
    "Not perturbed, because no item text is read at recommendation time: {models}.":
        "未加扰动（推荐时不读取物品文本）：{models}。",
    "Only a few candidates per list are ranked ({candidates}). Do not compare these metrics with metrics "
    "on the whole catalogue, where the order of models can differ.":
        "每个列表只对少量候选物品排序（{candidates}）。请勿与全部物品上的指标比较，那里模型的"
        "名次可能不同。",
    "Order of the lists: {ties}.": "列表顺序：{ties}。",
    "Popularity of items and how often each is recommended": "物品热门程度与被推荐次数",
    "Possible leak: {what}. Check whether the model's input contains "
    "the held-out interactions before you trust these metrics.":
        "可能存在数据泄漏：{what}。在相信这些指标之前，请检查模型输入是否包含"
        "留出交互。",
    "Recommended by {model}": "{model} 的推荐",
    "Recommender": "推荐器",
    "Robustness to perturbed texts": "对文本扰动的稳健性",
    "Rows": "行",
    "Seed": "随机种子",
    "Seeds": "随机种子",
    "Selected by a hash of their id, independent of their results.": "按 id 的哈希选取，与结果无关。",
    "Sentences and details below are about {model}, the best model by {metric}.":
        "以下说明与细节针对 {model}，即 {metric} 最高的模型。",
    "Sentences and details below are about {model}, which about= names.":
        "以下说明与细节针对 about= 指定的 {model}。",
    "Share of the most popular items": "最热门物品所占份额",
    "Slice": "分组",
    "Split": "划分",
    "Swapped knowledge": "互换的知识",
    "Synonyms": "同义词",
    "Synonyms: {source}.": "同义词：{source}。",
    "The groups are synthetic ({how}): built from users, with interactions derived from theirs. The "
    "metrics do not show how well real groups would be served.":
        "群组是合成的（{how}）：由用户组成，交互由成员的交互推出。这些指标不能说明对真实群组的"
        "效果。",
    "The lists of {k} by {model} cover {coverage:.0%} of the catalogue.":
        "{model} 的前 {k} 名列表覆盖物品目录的 {coverage:.0%}。",
    "The lists of {k} by {model} cover {coverage:.0%} of the catalogue; {tail:.0%} of their places go to "
    "the 80% least popular items.":
        "{model} 的前 {k} 名列表覆盖物品目录的 {coverage:.0%}；{tail:.0%} 的位置给了最冷门的 "
        "80% 物品。",
    "The order of interactions is therefore partly random, and a held-out interaction may not be the "
    "latest.":
        "因此交互的先后有一部分是随机的，留出的交互不一定是最新的。",
    "The same metrics by length of the list; bands are 95% intervals.":
        "相同指标随列表长度的变化；色带是 95% 置信区间。",
    "The same models and users, with typos, synonyms or truncation in the item texts at recommendation "
    "time. Nothing is trained again. Differences are paired user by user.":
        "模型与用户不变，推荐时在物品文本中加入错字、同义词替换或截断。不重新训练。差值按用户"
        "配对。",
    "The same {metric} is reached by {models}.": "{models} 的 {metric} 与之相同。",
    "The scores of {model} predict likes; on held-out likes and dislikes the accuracy is {accuracy:.0%}, "
    "the logloss {logloss:.3f} and the AUC {auc:.3f} (auc_pairs).":
        "{model} 的得分预测喜欢与否；在留出的喜欢与不喜欢上，准确率为 {accuracy:.0%}，对数损失"
        "为 {logloss:.3f}，AUC 为 {auc:.3f}（auc_pairs）。",
    "The scores of {model} predict values; their error on held-out interactions is {rmse:.3f} (rmse) and "
    "{mae:.3f} (mae).":
        "{model} 的得分预测评分值；在留出交互上的误差为 {rmse:.3f}（rmse）和 {mae:.3f}（mae）"
        "。",
    "The {audience} with the largest differences in {metric}, first those for whom {one} is better. They "
    "are selected by their results, so they show how the two models differ, not how often.":
        "{metric} 差异最大的{audience}，先列出 {one} 更好的。它们按结果选出，只说明两个模型怎"
        "样不同，不说明多常不同。",
    "These are means over rows. With equal weight for every {owner}, ndcg@{k} of {model} is {ndcg:.3f} "
    "and hit@{k} {hit:.3f}. All intervals are over {audience}.":
        "以上是对行的均值。若每个{owner}权重相同，{model} 的 ndcg@{k} 为 {ndcg:.3f}，hit@{k} "
        "为 {hit:.3f}。所有区间都按{audience}计算。",
    "This affects a held-out interaction of {share:.1%} of the {audience} with held-out interactions.":
        "在有留出交互的{audience}中，{share:.1%} 的留出交互受此影响。",
    "Timestamps are coarse:": "时间戳较粗：",
    "Trained on": "训练数据",
    "Training curves: {names}": "训练曲线：{names}",
    "Training of {model}": "{model} 的训练",
    "Triple counts": "三元组数量",
    "Truncated": "截断",
    "Typos": "错字",
    "User": "用户",
    "Users": "用户",
    "Users: no training interactions": "用户：没有训练交互（冷启动）",
    "Users: third with the longest histories": "用户：历史最长的三分之一",
    "Users: third with the shortest histories": "用户：历史最短的三分之一",
    "Users: with training interactions": "用户：有训练交互",
    "Where {one} and {other} differ most": "{one} 与 {other} 差异最大之处",
    "Without the graph": "不用图谱",
    "Without {relation}": "不用 {relation}",
    "Written by llmrec {version}.": "由 llmrec {version} 生成。",
    "a few sampled": "少量抽样",
    "all interactions before the split; {num:,} of {total:,} histories have interactions newer than the "
    "fit":
        "该划分之前的全部交互；{total:,} 个历史中有 {num:,} 个含有比拟合更新的交互",
    "all knowledge; fitted on training, measured on validation": "全部知识；在训练集上拟合，在验证集上测量",
    "all {num:,} items": "全部 {num:,} 个物品",
    "and relations between the same entities: {relations}": "以及相同实体之间的关系：{relations}",
    "and {num} more": "另有 {num} 项",
    "at least one held-out item among {k}": "前 {k} 名中至少有一个留出物品",
    "based on {vectors}": "基于{vectors}",
    "baseline": "基线",
    "baselines": "基线",
    "best model of the row": "该行最好的模型",
    "difference": "差值",
    "each linked item has the triples of another item of similar popularity":
        "每个有链接的物品换用热门程度相近的另一物品的三元组",
    "excludes zero": "不含 0",
    "fit {num}": "第 {num} 次拟合",
    "gain over {baseline}": "相对 {baseline} 的增益",
    "group": "群组",
    "groups": "群组",
    "held-out items of the {owner} on the list": "列表中该{owner}的留出物品数",
    "how high held-out items are ranked": "留出物品排得有多靠前",
    "includes zero": "包含 0",
    "interactions that the model was fitted on": "模型拟合所用的交互",
    "item": "物品",
    "items": "物品",
    "item attributes": "物品属性",
    "TF-IDF of the words in item texts": "物品文本词语的 TF-IDF",
    "letters": "字母",
    "list length k": "列表长度 k",
    "lists / catalogue": "列表 / 目录",
    "lists / training": "列表 / 训练",
    "lost": "损失",
    "marks held-out items that were recommended.": "标出被推荐的留出物品。",
    "models": "模型",
    "ndcg@{k} is {ours:.3f} for {model} and {base:.3f} for {baseline}{relative}. The difference is "
    "{difference:+.3f}; its 95% interval from {low:+.3f} to {high:+.3f} {zero}.":
        "{model} 的 ndcg@{k} 为 {ours:.3f}，{baseline} 为 {base:.3f}{relative}。差值为 "
        "{difference:+.3f}，其 95% 置信区间 {low:+.3f} 至 {high:+.3f} {zero}。",
    "none": "无",
    "not measured": "未测量",
    "number of lists ({model})": "所在列表数（{model}）",
    "of held-out items": "在留出物品中",
    "of the catalogue": "在目录中",
    "of the lists": "在列表中",
    "of training": "在训练中",
    "only the number of triples of an item": "只用物品的三元组数量",
    "original texts; texts read: {texts}": "原始文本；读取的文本：{texts}",
    "built in": "内置",
    "other data: {fingerprint}": "其他数据：{fingerprint}",
    "popularity rank": "热门名次",
    "profile only": "仅有用户资料",
    "red": "红色",
    "share of the catalogue that is recommended": "被推荐的物品占目录的份额",
    "share of the catalogue, most popular first": "物品目录份额，按热门程度排列",
    "share of the lists taken up by the 80% least popular items": "最冷门的 80% 物品占列表的份额",
    "strength {strength:g}, {changed:.0%} of the texts changed": "强度 {strength:g}，{changed:.0%} 的文本被改动",
    "the data above": "上述数据",
    "the lists": "列表",
    "the lists of {model}": "{model} 的列表",
    "the same head without knowledge": "不用知识的同一推荐头",
    "the same score": "得分相同",
    "the same score by {model}": "{model} 给出的得分相同",
    "training interactions": "训练交互",
    "training loss by step": "训练损失（按步）",
    "user": "用户",
    "query": "查询",
    "users": "用户",
    "worst model of the row": "该行最差的模型",
    "{given}: {model}": "{given}：{model}",
    "{items}, without items that the {owner} has seen": "{items}，不含该{owner}已交互过的物品",
    "{kind}: {which}": "{kind}：{which}",
    "{linked:,} of {items:,} items ({linked_share:.1%}) are linked to the graph; "
    "{interactions_share:.1%} of the training interactions are with linked items. A linked item is in "
    "{triples_per_linked_item:.0f} of the {triples:,} triples on average.":
        "{items:,} 个物品中有 {linked:,} 个（{linked_share:.1%}）链接到图谱；{interactions_share:.1%} "
        "的训练交互涉及有链接的物品。每个有链接的物品平均出现在 {triples:,} 个三元组中的 {triples_per_linked_item:.0f} "
        "个里。",
    "{low:+.4f} to {high:+.4f}": "{low:+.4f} 至 {high:+.4f}",
    "{low:+.4f} to {high:+.4f}; p {p}": "{low:+.4f} 至 {high:+.4f}；p {p}",
    "{low} to {high}": "{low} 至 {high}",
    "{low} to {high}; {note}": "{low} 至 {high}；{note}",
    "{metrics} by list length for {models}": "{models} 的 {metrics} 随列表长度的变化",
    "{metric} against coverage and tail share, numbered as in the leaderboard":
        "{metric} 与覆盖率、长尾份额，编号同排行榜",
    "{metric} on validation": "验证集上的 {metric}",
    "{metric} on validation by epoch": "验证集上的 {metric}（按轮）",
    "{metric} within slices of {audience} and items. Shades compare the models of one row. Do not "
    "compare rows with each other.":
        "{audience}与物品各分组内的 {metric}。颜色深浅只比较同一行的模型，请勿比较不同的行。",
    "{metric}: {places}.": "{metric}：{places}。",
    "{model} does not differ significantly from {other}": "{model} 与 {other} 没有显著差异",
    "{model} in detail": "{model} 的细节",
    "{model} ranks best of {num} recommenders": "{model} 在 {num} 个推荐器中最好",
    "{model} ranks better than {other}": "{model} 优于 {other}",
    "{model} ranks first of {num} recommenders, but is not significantly better than {others}":
        "{model} 在 {num} 个推荐器中名列第一，但并不显著优于 {others}",
    "{model} ranks worse than {other}": "{model} 不如 {other}",
    "{model} reaches an ndcg@{k} of {mean:.3f}": "{model} 的 ndcg@{k} 为 {mean:.3f}",
    "{model} recommends {k} of {among} items for each of {queries}. {share:.0%} of the lists contain at "
    "least one held-out item of the {owner} (95% interval {low:.0%} to {high:.0%})":
        "{model} 从 {among} 个物品中为 {queries}各推荐 {k} 个。{share:.0%} "
        "的列表至少含有该{owner}的一个留出物品（95% 置信区间 {low:.0%} 至 {high:.0%}）",
    "{model} {mean:.3f} (first)": "{model} {mean:.3f}（第一）",
    "{model} {mean:.3f} (last)": "{model} {mean:.3f}（末位）",
    "{model} {mean:.3f} (second)": "{model} {mean:.3f}（第二）",
    "{model}: {reason}": "{model}：{reason}",
    "{n:,} candidates are in their user's or group's history and are excluded (exclude_seen=true)":
        "{n:,} 个候选物品在其用户或群组的历史中，已排除（exclude_seen=true）",
    "{n:,} candidates are in their user's or group's history and are ranked as given; set "
    "exclude_seen=true to exclude them":
        "{n:,} 个候选物品在其用户或群组的历史中，仍按给定排序；设 exclude_seen=true 可排除",
    "{n:,} candidates are repeated in their list; each counts once": "{n:,} 个候选物品在列表中重复；各计一次",
    "{n:,} candidates equal the held-out item of their row; they count once":
        "{n:,} 个候选物品与该行的留出物品相同；只计一次",
    "{n:,} groups have fewer than {drawn:,} items to sample from": "{n:,} 个群组可抽样的物品少于 {drawn:,} 个",
    "{n:,} groups with held-out interactions not evaluated: no candidates":
        "{n:,} 个有留出交互的群组未评估：没有候选物品",
    "{n:,} held-out interactions are with items that are not candidates and cannot be recommended":
        "{n:,} 次留出交互的物品不在候选之列，无法被推荐",
    "{n:,} held-out interactions not evaluated: no row in the file": "{n:,} 次留出交互未评估：文件中没有对应的行",
    "{n:,} held-out items added to their list of candidates": "{n:,} 个留出物品已加入其候选列表",
    "{n:,} held-out items are in their user's or group's history and are ranked as given; set "
    "exclude_seen=true to exclude them":
        "{n:,} 个留出物品在其用户或群组的历史中，仍按给定排序；设 exclude_seen=true 可排除",
    "{n:,} lists ignored: no known candidate except the held-out item":
        "忽略 {n:,} 个列表：除留出物品外没有已知的候选物品",
    "{n:,} lists ignored: unknown group": "忽略 {n:,} 个列表：未知群组",
    "{n:,} lists ignored: unknown user": "忽略 {n:,} 个列表：未知用户",
    "{n:,} of {candidates:,} candidates ignored: not items of the data":
        "{candidates:,} 个候选物品中忽略 {n:,} 个：不是数据中的物品",
    "{n:,} rows have the same user or group and held-out item as an earlier row; every row is evaluated":
        "{n:,} 行与前面某行的用户或群组及留出物品相同；每一行都参与评估",
    "{n:,} rows ignored: their interaction is not in the evaluated split": "忽略 {n:,} 行：其交互不在所评估的划分中",
    "{n:,} users have fewer than {drawn:,} items to sample from": "{n:,} 个用户可抽样的物品少于 {drawn:,} 个",
    "{n:,} users with held-out interactions not evaluated: no candidates":
        "{n:,} 个有留出交互的用户未评估：没有候选物品",
    "{num:,} items without training interactions": "{num:,} 个没有训练交互的物品",
    "{num:,} of the {total:,} with held-out interactions": "{num:,}（有留出交互的共 {total:,}）",
    "{num:,} of {users:,} users": "{num:,} 次，来自 {users:,} 个用户",
    "{num:,} rows of {queries}": "{queries}的 {num:,} 行",
    "{num:,} rows": "{num:,} 行",
    "{queries} in {file}, with {num:,} relevant items": "{file} 中的 {queries}，共 {num:,} 个相关物品",
    "{n:,} of {rows:,} rows left out: none of their relevant items is an item of the data":
        "{rows:,} 行中有 {n:,} 行被略去：其相关物品都不是数据中的物品",
    "{n:,} of {rows:,} rows left out: none of their relevant items may be recommended":
        "{rows:,} 行中有 {n:,} 行被略去：其相关物品都不可推荐",
    "{n:,} relevant items ignored: not items of the data": "忽略 {n:,} 个相关物品：不是数据中的物品",
    "{n:,} relevant items are repeated in their row; each counts once": "{n:,} 个相关物品在其行中重复；各计一次",
    "{n:,} items of histories ignored: not items of the data": "忽略历史中的 {n:,} 个物品：不是数据中的物品",
    "{n:,} items are repeated in their history; each counts at its last place":
        "{n:,} 个物品在其历史中重复；各计在最后出现的位置",
    "{n:,} relevant items are in their row's history and cannot be recommended (exclude_seen=true)":
        "{n:,} 个相关物品在其行的历史中，无法被推荐（exclude_seen=true）",
    "{n:,} relevant items are in their row's history and are ranked as given; set exclude_seen=true to leave out what "
    "is in the history": "{n:,} 个相关物品在其行的历史中，按原样排序；设 exclude_seen=true 可排除历史中的物品",
    "{n:,} rows without a known history are ranked by their text": "{n:,} 行没有已知的历史，按其文本排序",
    "{n:,} rows without a history or text that the model reads are ranked by popularity":
        "{n:,} 行没有历史，也没有模型读取的文本，按热门程度排序",
    "the model was fitted on {num:,} of the {total:,} relevant interactions of the rows; fit it on what came before":
        "各行的 {total:,} 次相关交互中有 {num:,} 次被用来拟合该模型；请只用之前的交互来拟合",
    "the settings of the model were chosen on these very rows ({file}); measure on other rows":
        "该模型的设置正是在这些行（{file}）上选出的；请在其他行上评估",
    "Queries": "查询",
    "Protocol": "评测方案",
    "sequential papers: each user's last interaction, ranked among all items that the user has not seen (Petrov and "
    "Macdonald 2023; Tikhonovich et al. 2025)":
        "序列推荐论文：每个用户的最后一次交互，在该用户未见过的全部物品中排序（Petrov 与 Macdonald 2023；Tikhonovich "
        "等 2025）",
    "papers on language models: rows with their histories, ranked among all items, seen ones too (MiniOneRec 2025)":
        "语言模型论文：带历史的各行，在全部物品（包括已见过的）中排序（MiniOneRec 2025）",
    "neural collaborative filtering: each user's last interaction, ranked among 99 other items (He et al. 2017)":
        "神经协同过滤：每个用户的最后一次交互，与另外 99 个物品一起排序（He 等 2017）",
    "group recommendation: each interaction of a group, ranked among 100 given items (Cao et al. 2018; ConsRec 2023)":
        "群组推荐：群组的每次交互，与给定的 100 个物品一起排序（Cao 等 2018；ConsRec 2023）",
    "{num:,} triples": "{num:,} 个三元组",
    "{num:,} triples each": "各 {num:,} 个三元组",
    "{num:,} users have no training interactions. Each row gives the model their profile and a number of "
    "their first interactions, and ranks as recommend does. In all rows, the held-out items are those "
    "after the first {after} interactions, and the first {after} items are never recommended, so rows "
    "can be compared. The rest of this report uses {most} given interactions. Differences are paired "
    "user by user.":
        "{num:,} 个用户没有训练交互。每一行向模型提供其资料和最初的若干次交互，并像 recommend "
        "那样排序。所有行的留出物品都是前 {after} 次交互之后的物品，前 {after} 个物品从不推荐"
        "，因此各行可以比较。报告其余部分使用 {most} 次给定交互。差值按用户配对。",
    "{num:,} {audience}": "{num:,} 个{audience}",
    "{num:,} {audience} with held-out interactions were not evaluated.":
        "{num:,} 个有留出交互的{audience}未参与评估。",
    "{num:,}, each with a list of its own": "{num:,}，每行有自己的列表",
    "{num} interactions": "{num} 次交互",
    "{num} seeds, sd {sd:.4f}": "{num} 个随机种子，标准差 {sd:.4f}",
    "{num}, synthetic ({how})": "{num}，合成（{how}）",
    "{one:.3f} against {other:.3f}": "{one:.3f} 对 {other:.3f}",
    "{others} or {last}": "{others}或 {last}",
    "{rows} with a hit": "有命中的{rows}",
    "{sentence}.": "{sentence}。",
    "{sentence}; for {baseline}, the strongest baseline, {share:.0%} do.":
        "{sentence}；最强基线 {baseline} 为 {share:.0%}。",
    "{share:.0%} of {lists} contain items with equal scores, ordered by a hash of the item id. With this "
    "many ties, check whether the model has learned anything.":
        "{lists}中有 {share:.0%} 含有得分相同的物品，按物品 id 的哈希排序。并列如此之多，请检"
        "查模型是否学到了东西。",
    "{share:.1%} of the interactions have the same {owner} and time as another interaction.":
        "{share:.1%} 的交互与另一交互的{owner}和时间都相同。",
    "{share:.1%} of the lists of {model} contain equal scores.": "{model} 的列表中有 {share:.1%} 含有相同得分。",
    "{source}; known users scored from learned vectors: {models}": "{source}；用学得的向量为已知用户打分的：{models}",
    "{split}, {num:,} interactions": "{split}，{num:,} 次交互",
    "{train:,} train, {valid:,} valid, {test:,} test": "训练 {train:,}，验证 {valid:,}，测试 {test:,}",
    "score descending, then a salted BLAKE2b hash of the item id": "按得分降序，同分按物品 id 的加盐 BLAKE2b 哈希",
    "expectation over all orders of equal scores; lists and beyond-accuracy metrics: a salted BLAKE2b "
    "hash of the item id":
        "对同分物品的所有排列取期望；列表和准确性以外的指标：物品 id 的加盐 BLAKE2b 哈希",
    "random interactions of each user": "每个用户的随机交互",
    "random items with all their interactions": "随机物品及其全部交互",
    "random users with all their interactions": "随机用户及其全部交互",
    "{unit}: {valid} for validation, {test} for test (seed {seed})":
        "{unit}：{valid} 用于验证，{test} 用于测试（随机种子 {seed}）",
    "by time, with the same cutoffs for all users": "按时间，所有用户用相同的切分点",
    "each user's last interaction for test, the one before it for validation":
        "每个用户的最后一次交互用于测试，前一次用于验证",
    "given by the input files": "由输入文件给定",
    "given by the input files; {valid} of the training file for validation (seed {seed})":
        "由输入文件给定；训练文件的 {valid} 用于验证（随机种子 {seed}）",
    "nothing is held out": "不留出",
    "validation from {time}": "验证从 {time} 起",
    "test from {time}": "测试从 {time} 起",
    "pairs in several splits are kept": "出现在多个划分中的配对予以保留",
    "pairs in several splits are kept in the earliest only": "出现在多个划分中的配对只保留在最早的划分",
    "interactions of groups: {how}": "群组交互：{how}",
    "position {position:,}": "位置 {position:,}",
    "the text or attributes of the item contain the user's id in {num:,} of {total:,} held-out interactions; "
    "{expected:.1f} are expected by chance":
        "{total:,} 次留出交互中有 {num:,} 次的物品文本或属性含有该用户的 id；随机情况下预期为 {expected:.1f} 次",
    "{metric} is {mean:.3f}, nearly perfect for a ranking of {num:,} items":
        "{metric} 为 {mean:.3f}，对 {num:,} 个物品的排序来说近乎完美",
    "{metric} is {mean:.3f}, {times:.1f} times that of the strongest baseline ({best:.3f}), which was fitted on the "
    "same interactions":
        "{metric} 为 {mean:.3f}，是在相同交互上拟合的最强基线（{best:.3f}）的 {times:.1f} 倍",
    "recall@{k} on items without training interactions is {cold:.2f}; their texts or attributes may reveal who will "
    "like them":
        "在没有训练交互的物品上 recall@{k} 为 {cold:.2f}；其文本或属性可能透露了谁会喜欢它们",
    "{metric} is {mean:.3f} (95% interval from {low:.3f}) on test but {validation:.3f} on the validation split used "
    "for model selection":
        "{metric} 在测试集上为 {mean:.3f}（95% 置信区间下限 {low:.3f}），而在用于模型选择的验证集上为 "
        "{validation:.3f}",
    "all items": "全部物品",
    "items without training interactions, added as new items": "没有训练交互的物品，作为新物品加入",
    "cold": "冷启动",
    "sampled: {num} given per row ({file}), plus the row's held-out item":
        "抽样：每行给定 {num} 个（{file}），加上该行的留出物品",
    "sampled: {num} given per {owner} ({file}), plus the held-out items":
        "抽样：每个{owner}给定 {num} 个（{file}），加上留出物品",
    "sampled: {num} at random per {owner}, plus the held-out items": "抽样：每个{owner}随机 {num} 个，加上留出物品",
    "given: {num:,} items ({file})": "给定：{num:,} 个物品（{file}）",
    "text vectors of {model}": " {model} 的文本向量",
    "the metric": "指标",
    "random": "随机",
    "similar": "相似",
    "clusters": "聚类",
    "leave last out": "留出最后一次",
    "temporal": "按时间",
    "given": "由文件给定",
    "Latin": "拉丁字母",
    "Han": "汉字",
    "Hiragana/Katakana": "日文假名",
    "Hangul": "韩文",
    "Cyrillic": "西里尔字母",
    "Arabic": "阿拉伯字母",
    "Hebrew": "希伯来字母",
    "Devanagari": "天城文",
    "Thai": "泰文",
    "Greek": "希腊字母",
}
