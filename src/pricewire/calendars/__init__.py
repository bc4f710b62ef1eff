"""The exchanges' trading days, from the package exchange-calendars in a process of its own."""
