"""Names the fixture modules; nothing else belongs here."""

pytest_plugins = ("tests.fix_embedded", "tests.fix_hypothesis", "tests.fix_servers", "tests.fix_tenants")
