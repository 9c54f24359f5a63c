import itertools

import pytest

from gpt2_lightning.data.corpora.gutenberg import strip_boilerplate, urls
from gpt2_lightning.errors import UserError

BOOK = "THE STAR\n\nCHAPTER I.\n\nIt was on the first day of the new year.\n\n    An indented line.\n\nThe end."
HEAD = "The Project Gutenberg eBook of The Star\n\nThis ebook is for the use of anyone anywhere.\n\n"
LICENCE = "\n\nUpdated editions will replace the previous one.\n\n*** START: FULL LICENSE ***\n"

STARTS = [
    "*** START OF THE PROJECT GUTENBERG EBOOK THE STAR ***",
    "*** START OF THIS PROJECT GUTENBERG EBOOK THE STAR ***",
    "***START OF THE PROJECT GUTENBERG EBOOK THE STAR***",
    "*** START OF THE PROJECT GUTENBERG EBOOK 35 ***",
    "*** Start of this Project Gutenberg Etext The Star ***",
    "*** START OF THE PROJECT GUTENBERG EBOOK THE STAR, OR, WHAT WAS SEEN BY\nTHE MASTER MATHEMATICIAN ***",
    "*** START OF THE PROJECT GUTENBERG EBOOK THE STAR",
    "*** START OF THE COPYRIGHTED PROJECT GUTENBERG EBOOK THE STAR ***",
    "*END*THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*Ver.04.29.93*END*",
    "*END THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*Ver.10/04/01*END*",
    "**END** THE SMALL PRINT! FOR PUBLIC DOMAIN EBOOKS*Ver.02/11/02*END*",
]
ENDS = [
    "*** END OF THE PROJECT GUTENBERG EBOOK THE STAR ***",
    "*** END OF THIS PROJECT GUTENBERG EBOOK THE STAR ***",
    "***END OF THE PROJECT GUTENBERG EBOOK THE STAR***",
    "End of the Project Gutenberg EBook of The Star, by H. G. Wells",
    "End of Project Gutenberg's The Star, by H. G. Wells\n\n*** END OF THIS PROJECT GUTENBERG EBOOK THE STAR ***",
    "End of The Project Gutenberg Etext of The Star",
    "End of this Project Gutenberg Etext",
]
CREDITS = [
    "",
    "Produced by Some One and the Online Distributed\nProofreading Team at https://www.pgdp.net",
    "E-text prepared by Some One",
    "This etext was prepared by Some One <one@example.org>",
    "This eBook was produced by Some One.",
    "Transcribed from the 1901 edition by Some One, email one@example.org",
    "[Transcriber's note: spelling is kept.\n\nItalics are lost.]",
    "Produced by Some One\n\n[Transcriber’s Notes: none.]",
]


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("end", ENDS)
def test_the_book_alone_is_left(start: str, end: str) -> None:
    assert strip_boilerplate(f"{HEAD}{start}\n\n\n{BOOK}\n\n\n{end}{LICENCE}") == BOOK


@pytest.mark.parametrize("made_by", CREDITS)
def test_credits_at_the_start_are_no_part_of_the_book(made_by: str) -> None:
    assert strip_boilerplate(f"{HEAD}{STARTS[0]}\n\n{made_by}\n\n\n{BOOK}\n\n{ENDS[0]}{LICENCE}") == BOOK


def test_line_ends_and_byte_order_mark_of_windows_do_not_matter() -> None:
    text = f"{HEAD}{STARTS[0]}\n\n{CREDITS[1]}\n\n{BOOK}\n\n{ENDS[0]}{LICENCE}"
    for line_end in ("\n", "\r\n", "\r"):
        assert strip_boilerplate("\ufeff" + text.replace("\n", line_end)) == BOOK


def test_a_mark_at_the_very_start_of_the_file_is_seen() -> None:
    assert strip_boilerplate(f"\ufeff{STARTS[0]}\n{BOOK}\n{ENDS[0]}") == BOOK


def test_the_old_header_inside_a_newer_one_goes_as_well() -> None:
    assert strip_boilerplate(f"{HEAD}{STARTS[0]}\n\n**Old header**\n\n{STARTS[8]}\n{BOOK}\n{ENDS[0]}") == BOOK


def test_words_of_the_book_are_not_taken_for_marks() -> None:
    book = (
        "It was the end of the project, Gutenberg said. I saw *** stars.\n\n"
        "Produced by the sun, the light fell.\n\nTranscribed from memory.\n\n"
        "*** START OF THE RACE ***\n\nTHE END OF THE WORLD"
    )
    assert strip_boilerplate(f"{HEAD}{STARTS[0]}\n\nCHAPTER I.\n\n{book}\n\n{ENDS[0]}") == f"CHAPTER I.\n\n{book}"


@pytest.mark.parametrize("text", ["", BOOK, f"{HEAD}{BOOK}\n{ENDS[0]}", "<html>Not found</html>"])
def test_a_text_without_a_start_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"no line “\*\*\* START OF") as caught:
        strip_boilerplate(text)
    assert repr(text[:60]) in str(caught.value)


@pytest.mark.parametrize("cut", [1, 20, 200])
def test_a_text_that_is_cut_off_is_refused(cut: int) -> None:
    text = f"{HEAD}{STARTS[0]}\n\n{BOOK * 9}\n\n"
    with pytest.raises(UserError, match=r"no line “\*\*\* END OF"):
        strip_boilerplate(text[:-cut])


def test_each_ebook_has_its_own_address_at_every_mirror() -> None:
    assert urls(35)[-1] == "https://www.gutenberg.org/cache/epub/35/pg35.txt"
    addresses = list(itertools.chain(urls(35), urls(18137)))
    assert len(set(addresses)) == len(addresses) == 6
    assert all(address.startswith("https://") for address in addresses)
    assert all(address.endswith("/18137/pg18137.txt") for address in urls(18137))
