"""From a study file to the runs that it needs and the rows of its leaderboard."""
