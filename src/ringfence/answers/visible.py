"""What a model is shown of a document: what a reader of it could see, and no word of a chat template.

Characters that show nothing carry instructions past people (tag characters, variation selectors), or past filters
(between the letters of a word). A template's marks, taken literally by a server that reads them in any text, would end
the prompt's own turn and begin another.
"""

import re

# Unicode's default-ignorable code points and controls. Two joiners stay between letters of scripts that need them.
_UNSEEN = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f\x80-\x84\x86-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f"
    "\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff]"
    r"|(?<![^\x00-\x7f])[\u200c\u200d]+|[\u200c\u200d]+(?![^\x00-\x7f])"
)
# ChatML and its kin (also with DeepSeek's full-width bars), Llama's, Mistral's, Gemma's.
_TEMPLATE = re.compile(
    r"<(?=[|\uff5c]\w|/?(?:s|bos|eos|pad|unk|think|start_of_turn|end_of_turn)>|</?SYS>>)"
    r"|\[(?=/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS)\])"
)


def visible(text: str) -> str:
    """The text without characters that show nothing, a template's marks broken by a blank behind their bracket."""
    return _TEMPLATE.sub(r"\g<0> ", _UNSEEN.sub("", text))
