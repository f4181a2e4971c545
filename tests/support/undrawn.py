"""`kdbench` with a blank figure in place of all, for studies whose tables alone are looked at.

PYTHONPATH=tests python -m support.undrawn study ...
"""

if __name__ == "__main__":
    import kdbench.__main__
    from kdbench.execution.signals import exit_on_signals

    exit_on_signals()  # from the first line on, as the command has it
    from support import crash

    crash.leave_figures_out()
    kdbench.__main__.main()
