"""Chinese templates of the gate of `publish`."""

PUBLISH = {
    "at least {limit:g}": "至少 {limit:g}",
    "at most {limit:g}": "至多 {limit:g}",
    "{bound}, learned from {num} versions": "{bound}，由 {num} 个版本学得",
    "{check}: not measured": "{check}：未测量",
    "{text} ({bound}; gate.{check})": "{text}（{bound}；gate.{check}）",
    "interactions: {value:.1%} of those of the current version": "交互：当前版本的 {value:.1%}",
    "users: {value:.1%} of those of the current version": "用户：当前版本的 {value:.1%}",
    "items: {value:.1%} of those of the current version": "物品：当前版本的 {value:.1%}",
    "the newest interaction is {value:.1f} days older than that of the current version":
        "最新交互比当前版本的早 {value:.1f} 天",
    "the newest interaction is {value:.1f} days later than the clock": "最新交互比时钟晚 {value:.1f} 天",
    "held-out interactions with items of no training: a share {value:+.1%} above the current version's":
        "留出交互中物品不在训练集的比例：比当前版本高 {value:+.1%}",
    "rejected rows: a share {value:+.1%} above the current version's": "被拒绝的行：比例比当前版本高 {value:+.1%}",
    "rows that repeat a pair: a share {value:+.1%} above the current version's":
        "重复用户—物品对的行：比例比当前版本高 {value:+.1%}",
    "on the same held-out queries the metric is at least {value:.1%} below the current version's":
        "在相同的留出查询上，指标比当前版本至少低 {value:.1%}",
    "the metric is {value:+.4f} from that of popularity": "指标与按热门推荐相差 {value:+.4f}",
    "the metric is {value:.4f}": "指标为 {value:.4f}",
    "in the worst slice the metric is at least {value:.1%} below the current version's":
        "在最差的分组中，指标比当前版本至少低 {value:.1%}",
    "empty lists: {value:.2%}": "空列表：{value:.2%}",
    "short lists: a share {value:+.1%} above the current version's": "过短的列表：比例比当前版本高 {value:+.1%}",
    "lists with the same ten first items: {value:.1%}": "前十个物品相同的列表：{value:.1%}",
    "different items on lists: {value:.1%} of those of the current version": "列表中的不同物品：当前版本的 {value:.1%}",
    "of the ten first items {value:.1%} are still on the user's list": "前十个物品中 {value:.1%} 仍在用户的列表中",
    "items that are not in the catalogue: {value:.0f}": "不在目录中的物品：{value:.0f}",
    "Gini coefficient of the lists: {value:+.3f} against the current version":
        "列表的基尼系数：与当前版本相差 {value:+.3f}",
    "a new process gave {value:.0%} of the lists of a sample": "新进程给出了样本中 {value:.0%} 的列表",
    "lists that a new process gave otherwise: {value:.1%}": "新进程给出的不同列表：{value:.1%}",
    "a list takes {value:.3f} s": "每个列表用时 {value:.3f} 秒",
    "the version takes {value:.2f} GiB": "版本占用 {value:.2f} GiB",
}
