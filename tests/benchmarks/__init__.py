"""The benchmarks: ``tox -e benchmarks`` runs all of them side by side and prints the tables that the README quotes."""
