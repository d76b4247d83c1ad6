int three(int x) { return x * 5 + 1; }
