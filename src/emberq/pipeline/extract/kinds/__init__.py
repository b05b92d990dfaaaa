"""How kinds of files are told: by their signatures, and by what is in a text, a mail or markup."""
