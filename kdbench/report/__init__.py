"""Reports: a study's runs as a leaderboard, with tables, figures and a web page. Never torch.

- `data` reads the runs, from MLflow, from a report's own files or from a table of results.
- `rows` and `leaderboard` make the leaderboard, `pooled` the table over several settings.
- `text` writes the captions and notes; `writers`, `figures` and `page` write the formats.
- `write` writes all files of a report, and `check` compares them with the runs again.
"""
