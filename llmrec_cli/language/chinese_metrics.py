"""Chinese phrases of the glossary of metrics."""

METRICS = {
    "0 or more": "0 及以上",
    "0 to {highest:g}": "0 至 {highest:g}",
    "higher is better": "越高越好",
    "lower is better": "越低越好",
    "neither is better in itself": "本身无所谓好坏",
    "Range: {range}; {direction}.": "取值范围：{range}；{direction}。",
    "k: length of the list. h(n): number of relevant items among the first n of the list; h = h(k). r: "
    "number of relevant items. Σ over hits: sum over the relevant items on the list, at their ranks. "
    "n_i: number of training interactions of item i; N: of all items. M: number of candidate items. "
    "Means over users or groups follow.":
        "k：列表长度。h(n)：列表前 n 个物品中的相关物品数，h = h(k)。r：相关（留出）物品数。“Σ "
        "命中”：对列表中的相关物品按其名次求和。n_i：物品 i 的训练交互数；N：全部物品的训练交"
        "互数。M：候选物品数。最后对用户或群组取均值。",
    "1 / rank of the first hit": "1 / 首个命中的名次",
    "1 if h > 0, else 0": "h > 0 时为 1，否则为 0",
    "(1/r) · Σ over hits h(rank) / rank": "(1/r) · Σ 命中 h(名次) / 名次",
    "Σ over hits 1/log₂(rank + 1) ÷ Σ over n ≤ min(k, r) 1/log₂(n + 1)":
        "Σ 命中 1/log₂(名次 + 1) ÷ Σ n ≤ min(k, r) 1/log₂(n + 1)",
    "P(s⁺ > s⁻) + ½ · P(s⁺ = s⁻), scores s⁺ of likes and s⁻ of dislikes":
        "P(s⁺ > s⁻) + ½ · P(s⁺ = s⁻)，s⁺ 为喜欢的得分，s⁻ 为不喜欢的得分",
    "P(s⁺ > s⁻) + ½ · P(s⁺ = s⁻), scores s⁺ of relevant and s⁻ of other items":
        "P(s⁺ > s⁻) + ½ · P(s⁺ = s⁻)，s⁺ 为相关物品的得分，s⁻ 为其他物品的得分",
    "Σ over hits w_i ÷ Σ over relevant items w_i, w_i = max(1, n_i)^−propensity":
        "Σ 命中 w_i ÷ Σ 相关物品 w_i，w_i = max(1, n_i)^−propensity",
    "Σ over all hits of all lists w_i ÷ Σ over all relevant items w_i":
        "Σ 所有列表的全部命中 w_i ÷ Σ 全部相关物品 w_i",
    "number of items on any list / M": "出现在任一列表中的物品数 / M",
    "Σ over j (2j − M − 1) · e_j ÷ (M · Σ e_j), e_j: lists with item j, in ascending order":
        "Σ j (2j − M − 1) · e_j ÷ (M · Σ e_j)，e_j：含物品 j 的列表数，按升序排列",
    "mean over the list of −log₂(max(1, n_i) / N)": "对列表取 −log₂(max(1, n_i) / N) 的均值",
    "mean over the list of n_i": "对列表取 n_i 的均值",
    "number of tail items on the list / length of the list": "列表中的长尾物品数 / 列表长度",
    "1 − mean over pairs of cos(v_i, v_j), v_i: vector of item i":
        "1 − 对物品对取 cos(v_i, v_j) 的均值，v_i：物品 i 的向量",
    "mean over members of ndcg": "对成员取 ndcg 的均值",
    "min over members of ndcg": "成员 ndcg 的最小值",
    "max − min over members of ndcg": "成员 ndcg 的最大值 − 最小值",
    "√ mean (s − y)², predicted value s, observed value y": "√ (s − y)² 的均值，s 为预测值，y 为观测值",
    "mean (s − y)²": "(s − y)² 的均值",
    "mean of the absolute value of s − y": "s − y 的绝对值的均值",
    "mean of −log p for likes and −log(1 − p) for dislikes": "喜欢取 −log p、不喜欢取 −log(1 − p) 的均值",
    "number of correct predictions / number of pairs": "预测正确数 / 配对数",
    "number of correctly predicted likes / number of predicted likes": "预测正确的喜欢数 / 预测为喜欢的数",
    "number of correctly predicted likes / number of likes": "预测正确的喜欢数 / 喜欢数",
    "number of likes / number of pairs": "喜欢数 / 配对数",
    "Share of the relevant items that are on the list.": "召回率：相关物品中出现在列表里的比例。",
    "To see how much of what users want is on the list, for example when a ranker follows.":
        "看用户想要的有多少进入列表，例如列表之后还有精排时。",
    "Number of relevant items on the list divided by k, also where the list is shorter than k.":
        "精确率：列表中的相关物品数除以 k，列表不足 k 个时也除以 k。",
    "To see how many places of a list of fixed length are useful, for example in a newsletter.":
        "看固定长度的列表中有多少位置有用，例如推送邮件。",
    "Harmonic mean of precision and recall.": "F1：精确率与召回率的调和平均。",
    "To weigh recall and precision equally in one number.": "用一个数同等地权衡召回率与精确率。",
    "Share of the lists with at least one relevant item.": "命中率：至少含一个相关物品的列表所占比例。",
    "To see how many users get at least one useful item; the easiest metric to explain.":
        "看有多少用户至少得到一个有用的物品；最容易解释的指标。",
    "Discounted cumulative gain (relevant items count 1 / log2(rank + 1)) divided by that of the ideal "
    "list.":
        "归一化折损累计增益 (NDCG)：折损累计增益（相关物品计 1 / log2(名次 + 1)）除以理想列表"
        "的折损累计增益。",
    "As the main metric when users read lists from the top: it counts hits and their ranks.":
        "用户从上往下看列表时的主要指标：既看命中，也看名次。",
    "Mean over the relevant items of the precision at the rank of each, 0 for those not on the list.":
        "平均精确率均值 (MAP)：对每个相关物品取其名次处的精确率再平均，不在列表中的计 0。",
    "When most users have several relevant items and the order of all of them matters.":
        "多数用户有多个相关物品，且它们的顺序都重要时。",
    "Reciprocal of the rank of the first relevant item, 0 without a relevant item on the list.":
        "平均倒数排名 (MRR)：首个相关物品名次的倒数，列表中没有相关物品时为 0。",
    "When users look for one item, such as the next one to watch.": "用户只找一个物品时，例如下一部要看的影片。",
    "Probability that a relevant item scores above another candidate (area under the ROC curve), ties "
    "count half.":
        "AUC：相关物品得分高于其他候选物品的概率（ROC 曲线下面积），同分计一半。",
    "To see how well all candidates are ordered, not only the top; high values are common, so compare "
    "models.":
        "看全部候选物品的排序，而不只是前列；数值普遍偏高，应在模型之间比较。",
    "Mean auc, weighted by the number of relevant items of each user or group.":
        "GAUC：auc 的均值，按每个用户或群组的相关物品数加权。",
    "Like auc, when users with many held-out items should count more.": "同 auc，但留出物品多的用户应占更大权重时。",
    "Recall with items weighted by 1 / propensity: rarely observed items count for more.":
        "逆倾向加权召回率：物品按 1 / 倾向得分加权，少被观测的物品权重更大。",
    "To check that a gain in recall does not come from popular items only.": "检查召回率的提升是否只来自热门物品。",
    "Popularity-stratified recall: as ips_recall, but over the relevant items of all users together "
    "(Steck 2011).":
        "按热门程度分层的召回率：同 ips_recall，但把所有用户的相关物品合在一起（Steck 2011）。",
    "Like ips_recall, when every held-out item should count, not every user.":
        "同 ips_recall，但应以每个留出物品而非每个用户为单位时。",
    "Share of the candidate items that are on any list.": "覆盖率：出现在任一列表中的候选物品所占比例。",
    "To see how much of the catalogue can be found through recommendations.": "看物品目录中有多少能通过推荐被找到。",
    "Inequality of how often candidate items are recommended (Gini coefficient): 0 all equally, near 1 "
    "only a few.":
        "基尼系数：候选物品被推荐次数的不均等程度，0 为完全均等，接近 1 为只推荐少数物品。",
    "To see whether recommendations concentrate on a few items, although many are covered.":
        "看推荐是否集中于少数物品，即使覆盖的物品很多。",
    "Mean self-information of the items on a list: -log2 of their share of the training interactions, in "
    "bits.":
        "新颖性：列表中物品的平均自信息，即其训练交互份额的 -log2，单位为比特。",
    "To see whether lists go beyond the items that everybody knows.": "看列表是否超出人人皆知的物品。",
    "Average recommendation popularity: mean number of training interactions of the items on a list.":
        "平均推荐热度：列表中物品的训练交互数的均值。",
    "To see popularity bias: compare with the baseline popularity.": "看热门偏差：与基线 popularity 比较。",
    "Share of the items on a list that are in the slice item:tail, the 80% least popular training items.":
        "长尾份额：列表中属于 item:tail（训练集中最冷门的 80% 物品）的物品所占比例。",
    "To see whether long-tail items get places on the lists.": "看长尾物品能否进入列表。",
    "1 - the mean cosine between two items of a list, by text vectors, words or attributes (Ziegler et "
    "al. 2005).":
        "多样性：1 减去列表中两两物品的平均余弦，依据文本向量、词语或属性（Ziegler 等 2005）。",
    "To see whether the items of a list differ from each other; near 0 they are nearly the same.":
        "看列表中的物品彼此是否不同；接近 0 时几乎相同。",
    "Mean ndcg of the group's list over its members, each with the member's own held-out items.":
        "成员 NDCG：群组列表对各成员的 ndcg 的均值，各用成员自己的留出物品。",
    "To see how well group lists serve members on average.": "看群组列表平均而言对成员有多合适。",
    "Lowest ndcg of the group's list among its members.": "成员最低 NDCG：群组列表在各成员中最低的 ndcg。",
    "To see how well group lists serve the least satisfied member.": "看群组列表对最不满意的成员有多合适。",
    "Highest minus lowest ndcg of the group's list among its members.":
        "成员差距：群组列表在各成员中最高与最低 ndcg 之差。",
    "To see how unequally the members of a group are served.": "看群组成员受益的不均等程度。",
    "Root of the mean squared error of the predicted values, in their unit.":
        "均方根误差 (RMSE)：预测值的均方误差的平方根，单位与评分值相同。",
    "For predicted ratings, when large errors are worse than several small ones.":
        "用于评分预测，大误差比几个小误差更糟时。",
    "Mean squared error of the predicted values.": "均方误差 (MSE)：预测值误差平方的均值。",
    "Like rmse, in squared units; to compare with papers that report it.":
        "同 rmse，单位为平方；用于与报告它的论文比较。",
    "Mean absolute error of the predicted values, in their unit.":
        "平均绝对误差 (MAE)：预测值误差绝对值的均值，单位与评分值相同。",
    "For predicted ratings, when errors count in proportion to their size; easy to explain.":
        "用于评分预测，误差按大小成比例计时；容易解释。",
    "Mean of -log p of the observed likes and dislikes, p = sigmoid(score), in nats.":
        "对数损失：对观测到的喜欢与不喜欢取 -log p 的均值，p = sigmoid(得分)，单位为奈特。",
    "When scores are used as probabilities: confident errors cost most.":
        "把得分当作概率使用时：自信的错误代价最大。",
    "Share of the likes and dislikes that are predicted correctly; a score above 0 predicts a like.":
        "准确率：预测正确的喜欢与不喜欢所占比例；得分大于 0 预测为喜欢。",
    "For a first view of predicted likes; compare with likes_share, since frequent likes make it high.":
        "初步了解对喜欢的预测；请与 likes_share 对照，因为喜欢很多时准确率自然偏高。",
    "Probability that a like scores above a dislike, over all pairs together, ties count half.":
        "喜欢的得分高于不喜欢的概率，全部配对合在一起，同分计一半。",
    "To see how well scores separate likes from dislikes, whatever the threshold.":
        "看得分区分喜欢与不喜欢的能力，与阈值无关。",
    "Share of the predicted likes that are likes, 0 without a predicted like.":
        "预测为喜欢者中确为喜欢的比例，没有预测为喜欢者时为 0。",
    "When a wrongly predicted like is costly.": "误判为喜欢的代价较高时。",
    "Share of the likes that are predicted.": "喜欢中被预测出来的比例。",
    "When a missed like is costly.": "漏掉喜欢的代价较高时。",
    "Harmonic mean of precision_pairs and recall_pairs.": "precision_pairs 与 recall_pairs 的调和平均。",
    "To weigh precision_pairs and recall_pairs equally in one number.":
        "用一个数同等地权衡 precision_pairs 与 recall_pairs。",
    "Share of the pairs that are likes, which is the precision_pairs of predicting a like for every "
    "pair.":
        "配对中喜欢所占的比例，即全部预测为喜欢时的 precision_pairs。",
    "As the reference for accuracy and precision_pairs.": "作为 accuracy 与 precision_pairs 的参照。",
    "Formula:": "公式：",
    "Use:": "用途：",
}
