"""Stands in for adb: `python fake_adb.py CONVERSATION WORD ...` answers the next call as the conversation says.

The conversation is JSON: `answer`, the app's JSON, and `calls`, each with the words that are expected (`*` stands for
any, `RUN` for the name that the caller gave this measurement), what is printed, and the exit code. Each call that was
answered is noted in a file beside it; a call that the conversation does not know ends with 99.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path


def main(conversation_path: Path, words: list[str]) -> int:
    """Answers one call."""
    conversation = json.loads(conversation_path.read_text(encoding="utf-8"))
    log = conversation_path.with_suffix(".log")
    number = len(log.read_text(encoding="utf-8").splitlines()) if log.exists() else 0
    call = conversation["calls"][number] if number < len(conversation["calls"]) else None
    expected = "nothing more" if call is None else call["words"]
    if call is None or not matches(call["words"], words):
        print(f"call {number} was {words}, expected {expected}", file=sys.stderr)
        return 99
    with log.open("a", encoding="utf-8") as file:
        file.write(json.dumps(words) + "\n")
    said = json.dumps(conversation["answer"]) if call.get("says_answer") else call.get("stdout", "")
    print(said)
    print(call.get("stderr", ""), file=sys.stderr)
    return int(call.get("code", 0))


def matches(expected: list[str], words: list[str]) -> bool:
    """Whether each word is the expected one."""
    if len(expected) != len(words):
        return False
    patterns = [re.escape(word).replace(r"\*", ".*").replace("RUN", "[0-9a-f]{8}") for word in expected]
    return all(re.fullmatch(pattern, word) for pattern, word in zip(patterns, words, strict=True))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
