"""What emberq does for Open WebUI; nothing else of emberq knows that there is such a program."""
