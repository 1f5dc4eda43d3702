"""Where inverse roots break down: condition number, number format, method."""
