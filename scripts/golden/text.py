#!/usr/bin/env python3
"""Writes tests/golden/text/*.json: chunks as LangChain's splitters cut them.

Needs: pip install langchain-text-splitters==1.1.3
Run:   python3 scripts/golden/text.py
The texts are generated from a fixed seed, so a run without a change of version leaves the files as they are.
"""

import json
import pathlib
import random

from langchain_text_splitters import Language, RecursiveCharacterTextSplitter

OUT = pathlib.Path(__file__).resolve().parents[2] / "tests" / "golden" / "text"
WORDS = {
    "en": "the of a query engine reads every page and writes what it finds into one table so that people may ask again "
    "tomorrow; measured, not guessed: twelve pages, forty-two images (mostly photographs) “quoted” end.".split(),
    "mixed": "Größe über naïve café façade 日本語の文章 文字 中文段落 русский текст عربى שלום 🦑 👩‍👩‍👧 e\u0301 ﬁ \u200bzero ½".split(),
}


def prose(rng, words, paragraphs, sentences):
    out = []
    for _ in range(paragraphs):
        lines = []
        for _ in range(rng.randint(1, sentences)):
            line = " ".join(rng.choice(words) for _ in range(rng.randint(3, 28)))
            lines.append(line[:1].upper() + line[1:] + rng.choice([".", ".", "?", "!"]))
        out.append(rng.choice([" ", " ", "\n"]).join(lines))
    return "\n\n".join(out)


def markdown(rng):
    out = ["# Title of the document\n"]
    for section in range(9):
        out.append("\n" + "#" * rng.randint(2, 6) + f" Section {section}\n\n" + prose(rng, WORDS["en"], 2, 4))
        out.append(rng.choice(["\n---\n", "\n***\n", "\n___\n", "\n-----\n", "\n"]))
        out.append("\n```sql\nSELECT page_no, text\nFROM pdf_pages(content)\nWHERE char_count > 10;\n```\n")
        out.append("".join(f"\n- item {i}: {rng.choice(WORDS['en'])}" for i in range(rng.randint(2, 8))) + "\n")
    return "".join(out)


def texts():
    rng = random.Random(20)
    return {
        "prose": prose(rng, WORDS["en"], 12, 9),
        "unicode": prose(rng, WORDS["mixed"], 8, 6),
        "markdown": markdown(rng),
        "long_lines": "\n".join("x" * n for n in (1, 99, 100, 101, 350)) + "\n" + "文" * 230 + " " + "tail " * 40,
        "spaces": "  lead\u00a0\u2003\x1c and \x1f\n\n\n\n \n\t\n" + " " * 120 + "end\x85" + "\n" * 30 + "\u3000wide\u3000 ",
        "lines": "\n".join(f"{i}: " + "ab " * (i % 13) for i in range(90)),
        "empty": "",
        "blank": " \n\n \t\n" * 20,
        "one": "x",
    }


def splitter(by, size, overlap):
    if by == "markdown":
        return RecursiveCharacterTextSplitter.from_language(Language.MARKDOWN, chunk_size=size, chunk_overlap=overlap)
    return RecursiveCharacterTextSplitter(chunk_size=size, chunk_overlap=overlap)


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    for name, text in texts().items():
        cases = []
        for by in ("recursive", "markdown"):
            for size, overlap in ((2048, 200), (1000, 100), (100, 0), (100, 20), (33, 32), (10, 3)):
                if by == "markdown" and name not in ("markdown", "prose", "spaces", "empty") and size != 100:
                    continue
                if size < 100 and name not in ("markdown", "spaces", "long_lines", "one", "blank", "empty"):
                    continue
                if size == 33 and name != "spaces":
                    overlap = 8
                chunks = splitter(by, size, overlap).split_text(text)
                cases.append({"by": by, "chunk_size": size, "overlap": overlap, "chunks": chunks})
            if name in ("spaces", "one"):
                for size, overlap in ((1, 0), (2, 1), (3, 0)):
                    chunks = splitter(by, size, overlap).split_text(text)
                    cases.append({"by": by, "chunk_size": size, "overlap": overlap, "chunks": chunks})
        body = json.dumps({"text": text, "cases": cases}, ensure_ascii=False, indent=0)
        (OUT / f"{name}.json").write_text(body + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
