"""The command `pricewire`, one file a command group."""
