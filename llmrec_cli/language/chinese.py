"""Chinese templates of all phrases: English template -> Chinese template with the same placeholders."""

from llmrec_cli.language.chinese_audit import AUDIT
from llmrec_cli.language.chinese_evaluation import EVALUATION
from llmrec_cli.language.chinese_metrics import METRICS
from llmrec_cli.language.chinese_prepare import PREPARE, REJECTS
from llmrec_cli.language.chinese_pretraining import PRETRAINING
from llmrec_cli.language.chinese_publish import PUBLISH

TABLE = EVALUATION | METRICS | PRETRAINING | AUDIT | PREPARE | REJECTS | PUBLISH
