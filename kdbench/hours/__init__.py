"""How many hours a study takes on a card, from the operations that its runs do."""
