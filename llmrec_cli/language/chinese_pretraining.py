"""Chinese phrases of the pretraining report."""

PRETRAINING = {
    "(worse) mark an interval that excludes 0.": "（更差）标出不含 0 的区间。",
    ", rank {before:,.0f} before, {after:,.0f} after": "，之前第 {before:,.0f} 名，之后第 {after:,.0f} 名",
    "Accuracy": "准确率",
    "Corpus": "语料",
    "Data and training": "数据与训练",
    "Encoder": "编码器",
    "Epoch": "轮",
    "Epochs": "轮数",
    "Example texts": "文本示例",
    "Examples per step": "每步样本数",
    "Held-out loss": "留出损失",
    "Histories written as texts": "把历史写成文本",
    "Histories, at most": "历史数上限",
    "Items of a history": "每个历史的物品数",
    "Losses": "损失",
    "Metric": "指标",
    "Nearest after": "之后最近的标题",
    "Nearest before": "之前最近的标题",
    "No probe: fewer than {num} held-out items have a question, so damage to the vectors would not be "
    "noticed. Raise objective.holdout_share, or compare both encoders in a trained head.":
        "没有探测：能提问的留出物品少于 {num} 个，向量受损不会被发现。请增大 objective.holdout_share，"
        "或在训练好的推荐头中比较两个编码器。",
    "No probe: too few held-out items have a description besides their title, or a history before them.":
        "没有探测：除标题外有描述、或此前有历史的留出物品太少。",
    "Objective": "训练目标",
    "Pretraining did harm: the encoder ranks the right title lower": "预训练有害：编码器把正确标题排得更低",
    "Pretraining may have done harm: the encoder ranks the right title lower, but not significantly":
        "预训练可能有害：编码器把正确标题排得更低，但不显著",
    "Pretraining of {base} on {data}, objective: {objective}": "{base} 在 {data} 上的预训练，训练目标：{objective}",
    "Pretraining with {objective}: {loss}": "预训练（{objective}）：{loss}",
    "Probe, mrr": "探测，mrr",
    "Probe: is the right title the nearest?": "探测：正确标题是否最近？",
    "Question": "问题",
    "Right:": "正确：",
    "Share held out": "留出比例",
    "Share of tokens masked": "被遮盖的词元比例",
    "Softmax temperature": "softmax 温度",
    "The encoder {verdict}; {loss}": "编码器{verdict}；{loss}",
    "The first few questions.": "最前面的几个问题。",
    "The head was new, so the loss before training does not measure the encoder.":
        "预测头是新建的，因此训练前的损失不能衡量编码器。",
    "The held-out loss is a mean over {num:,} {scored} from {examples:,} held-out examples. The weights "
    "of the epoch with the lowest held-out loss are saved.":
        "留出损失是对 {examples:,} 个留出样本中 {num:,} 个{scored}的均值。保存留出损失最低的一"
        "轮的权重。",
    "The held-out loss rose from {before:.3f} to {after:.3f} nats: the training does not generalise to "
    "other texts. Lower optim.encoder_learning_rate, or use the encoder as it was before.":
        "留出损失从 {before:.3f} 升到 {after:.3f} 奈特：训练没有推广到其他文本。请降低 "
        "optim.encoder_learning_rate，或使用原来的编码器。",
    "The question for each held-out item is: {question} The encoder ranks {titles:,} titles by the "
    "cosine of their vectors, for {questions:,} questions. The probe complements the loss: an objective "
    "can be learned well and still damage the vectors. The interval is for the mean over questions "
    "(paired bootstrap).":
        "对每个留出物品的问题是：{question}编码器对 {questions:,} 个问题按向量余弦给 "
        "{titles:,} 个标题排序。探测是对损失的补充：目标学得好，向量仍可能受损。区间针对问题的"
        "均值（配对自助法）。",
    "Time": "时间",
    "Training": "训练",
    "Triples written as texts": "把三元组写成文本",
    "Two views of an item": "物品的两个视图",
    "Whole words masked together": "整词遮盖",
    "Wrong next items per example": "每个样本的错误后续物品数",
    "after": "之后",
    "before": "之前",
    "causal language model": "因果语言模型",
    "contrastive learning": "对比学习",
    "finds titles about as well as before": "找标题的能力与之前相当",
    "finds titles better than before": "比之前更能找到标题",
    "finds titles worse than before": "找标题的能力不如之前",
    "held-out loss": "留出损失",
    "held-out loss by epoch": "留出损失（按轮）",
    "held-out loss {before:.2f} to {after:.2f}": "留出损失 {before:.2f} 变为 {after:.2f}",
    "its text and its triples as text": "其文本，与写成文本的三元组",
    "its text and the history before it": "其文本，与它之前的历史",
    "its text, twice with different dropout": "其文本，两次不同的 dropout",
    "marks the right title.": "标出正确标题。",
    "masked language model": "掩码语言模型",
    "masked tokens": "被遮盖的词元",
    "nats, {before:.3f} before, over {num:,} {scored}": "奈特，之前为 {before:.3f}，共 {num:,} 个{scored}",
    "next-sentence prediction": "下一句预测",
    "no": "否",
    "pairs of a history and an item": "历史与物品的配对",
    "pairs of views": "视图对",
    "saved": "已保存",
    "tokens": "词元",
    "training loss": "训练损失",
    "which title belongs to this description?": "这段描述对应哪个标题？",
    "which title comes next after these?": "这些之后是哪个标题？",
    "yes": "是",
    "{before:.3f} before; 95% interval of the difference {low:+.3f} to {high:+.3f}":
        "之前为 {before:.3f}；差值的 95% 置信区间 {low:+.3f} 至 {high:+.3f}",
    "{num:,} examples": "{num:,} 个样本",
    "{num:,} in training": "训练 {num:,} 次",
    "{num}, best {best}": "{num}，最好的是第 {best} 轮",
    "{seconds:,.0f} s": "{seconds:,.0f} 秒",
    "{share:.1%} before": "之前为 {share:.1%}",
    "{share:.1%} before; by chance {chance:.1%}": "之前为 {share:.1%}；随机为 {chance:.1%}",
    "{verdict} (mrr {before:.3f} before, {after:.3f} after, 95% interval of the difference {low:+.3f} to "
    "{high:+.3f}). Compare both encoders in a trained head before you use this one. A lower "
    "optim.encoder_learning_rate, fewer epochs or another objective may work better.":
        "{verdict}（mrr 之前 {before:.3f}，之后 {after:.3f}，差值的 95% 置信区间 {low:+.3f} "
        "至 {high:+.3f}）。使用之前，请在训练好的推荐头中比较两个编码器。降低 optim.encoder_learning_rate、"
        "减少轮数或换用其他目标可能更好。",
}
