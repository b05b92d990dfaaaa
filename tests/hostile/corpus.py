"""The hostile corpus: more than 300 files, built when they are needed."""

from __future__ import annotations

from tests.hostile.archives import archive_files
from tests.hostile.bundles import bundle_files
from tests.hostile.kinds import HostileFile
from tests.hostile.mailboxes import mailbox_files
from tests.hostile.mails import mail_files
from tests.hostile.mutations import mutated_files
from tests.hostile.office import office_files
from tests.hostile.pdf_parts import pdf_part_files
from tests.hostile.pdfs import pdf_files
from tests.hostile.rich import rich_files
from tests.hostile.texts import text_files

__all__ = ["make_corpus"]

#: The seed of the corpus in the test suite.
SEED = 15


def make_corpus(seed: int = SEED) -> list[HostileFile]:
    """Return the files; a seed decides where some are cut and which bits are flipped."""
    return [
        *text_files(),
        *mail_files(),
        *mailbox_files(),
        *archive_files(),
        *bundle_files(),
        *rich_files(),
        *office_files(),
        *pdf_files(),
        *pdf_part_files(),
        *mutated_files(seed),
    ]
