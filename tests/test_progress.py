from higan.progress import progress


def test_lines_where_nobody_looks(capsys):
    """To standard error; those of a job are its log."""
    for job in (False, True):
        with progress("painting", total=4, done=1, every=0.0, job=job) as advance:
            advance(2, "fast")
        said = capsys.readouterr()
        log, other = (said.out, said.err) if job else (said.err, said.out)
        assert log.startswith("painting: 3/4 maps, ") and log.endswith("s left fast\n") and not other
