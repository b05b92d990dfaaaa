"""Mail, mailboxes, web archives, and the messages of Outlook."""
