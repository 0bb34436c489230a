"""Pages and tables of the report: a study's page, the comparison of studies, their server, and LaTeX tables."""
