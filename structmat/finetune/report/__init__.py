"""The report of a comparison of methods: statistics, sentences, tables, pictures and the page."""
