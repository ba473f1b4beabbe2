"""What the data-set doctor finds wrong with captions and with the buckets that pictures fall into."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from library.data.buckets import Size
from library.data.captions import split_tags
from library.prepare.examined import Examined, Wish
from library.prepare.findings import Finding, counted, finding, them

NEARLY_ALL, FEWEST = 0.9, 5  # a tag in this part of the captions binds to the subject; said of no fewer captions
TAGS_NAMED = 5
LONGEST = 225  # tokens; max_token_length goes no further

Pictures = Sequence[Examined]


def unread(pictures: Pictures, _: Wish) -> Iterator[Finding]:
    """Captions that are no text, or of which only a part is used."""
    wrong = [each.path for each in pictures if each.caption.problem]
    if wrong:
        sentence = f"not in UTF-8: a training run would stop; save {them(len(wrong))} as UTF-8."
        yield finding("caption_not_text", wrong, f"{counted(len(wrong), 'caption')} {sentence}")
    several = [each for each in pictures if len(each.caption.lines) > 1 and not each.subset.enable_wildcard]
    if several:
        named = {each.path: counted(len(each.caption.lines), "line") for each in several}
        sentence = "of several lines, of which the first is used: join the lines, or set enable_wildcard = true."
        yield finding("caption_lines", named, f"{counted(len(several), 'caption')} {sentence}")


def wordless(pictures: Pictures, _: Wish) -> Iterator[Finding]:
    """Readable pictures without words of their own: bad where no class words take their place."""
    bare = [each for each in pictures if each.looks and not each.caption.lines and not each.caption.problem]
    classed = [each for each in bare if each.caption.shown]
    if classed:
        names = ", ".join(dict.fromkeys(f"'{each.caption.words}'" for each in classed))
        sentence = f"without words of its own: training takes {names}; write captions for what differs."
        yield finding("class_words", [each.path for each in classed], f"{counted(len(classed))} {sentence}")
    rest = [each for each in bare if not each.caption.shown]
    remedy = "nothing there is bound to words; write some (preprocess/caption_blip.py, preprocess/tag_wd14.py)."
    for kind, what in (("caption_missing", "without a caption"), ("caption_empty", "with an empty caption")):
        paths = [each.path for each in rest if each.caption.has_file == (kind == "caption_empty")]
        if paths:
            yield finding(kind, paths, f"{counted(len(paths))} {what}: {remedy}", len(pictures))


def lengths(pictures: Pictures, wish: Wish) -> Iterator[Finding]:
    """Captions that are longer than what is read of them."""
    most = wish.max_token_length
    long = {each.path: f"{each.caption.tokens} tokens" for each in pictures if each.caption.tokens > most}
    if long:
        more = f", or raise max_token_length to 150 or {LONGEST}" if most < LONGEST else ""
        sentence = f"longer than the {most} tokens that are read: shorten {them(len(long))}{more}."
        yield finding("caption_long", long, f"{counted(len(long), 'caption')} {sentence}")


def contents(pictures: Pictures, wish: Wish) -> Iterator[Finding]:
    """Captions that lack the trigger, are all the same, or share a tag."""
    worded = [each for each in pictures if each.caption.shown]
    paths = [each.path for each in worded]
    trigger = wish.trigger_word
    lacking = [each.path for each in worded if trigger and not holds(each.caption.words, trigger)]
    if lacking:
        yield finding(
            "trigger_missing",
            lacking,
            f"{counted(len(lacking), 'caption')} without the trigger '{trigger}', to which these pictures would not be "
            "bound: add it (preprocess/edit_captions.py --add_front).",
            len(pictures),
        )
    texts = {each.caption.words for each in worded}
    if len(texts) == 1 and len(worded) > 1 and any(each.caption.lines for each in worded):
        yield finding(
            "captions_same",
            paths,
            f"all captions are '{_short(min(texts))}': poses, clothes and backgrounds are bound to it too; describe "
            "what differs.",
        )
    elif shared := common_tags(worded, trigger):
        names = ", ".join(f"'{tag}' ({count} of {len(worded)})" for tag, count in shared[:TAGS_NAMED])
        yield finding(
            "common_tag",
            paths,
            f"in nearly all captions: {names}; prune what belongs to the subject, so that it is bound to the trigger.",
        )


def buckets(pictures: Pictures, wish: Wish) -> Iterator[Finding]:
    """Buckets that cannot fill a batch, so that steps learn from fewer pictures than meant."""
    batch = wish.train_batch_size
    small = [size for size, count in bucket_samples(pictures).items() if count < batch]
    if small:
        placed = [(each.path, each.placing.size) for each in pictures if each.placing]
        yield finding(
            "small_bucket",
            {path: f"{size[0]}x{size[1]}" for path, size in placed if size in small},
            f"{counted(len(small), 'bucket')} with fewer samples than a batch of {batch}, so that steps learn from "
            "less: crop to common shapes, raise num_repeats, or lower train_batch_size.",
        )


CHECKS: tuple[Callable[[Pictures, Wish], Iterator[Finding]], ...] = (unread, wordless, lengths, contents, buckets)


def bucket_samples(pictures: Pictures) -> dict[Size, int]:
    """Samples an epoch, repeats included, by (width, height) of the bucket."""
    counts: Counter[Size] = Counter()
    for each in pictures:
        if each.placing:
            counts[each.placing.size] += each.subset.num_repeats
    return dict(sorted(counts.items()))


def tag_counts(pictures: Pictures) -> Counter[str]:
    """How many pictures have each tag in their caption, capitals or not."""
    counts: Counter[str] = Counter()
    for each in pictures:
        separator = each.subset.caption_separator
        counts.update(set(split_tags(each.caption.words.replace("\n", separator).lower(), separator)))
    return counts


def common_tags(pictures: Pictures, trigger: str) -> list[tuple[str, int]]:
    """The tags in nearly all captions apart from the trigger, the commonest first."""
    least = max(FEWEST, NEARLY_ALL * len(pictures))
    counts = tag_counts(pictures).most_common()
    return [(tag, count) for tag, count in counts if count >= least and not (trigger and holds(tag, trigger))]


def holds(text: str, words: str) -> bool:
    """Whether a text has these words as whole words, in capitals or not, whatever the blanks between them."""
    pattern = r"\s+".join(re.escape(word) for word in words.split())
    return re.search(rf"(?<!\w){pattern}(?!\w)", text, re.IGNORECASE) is not None


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:39]}…"
