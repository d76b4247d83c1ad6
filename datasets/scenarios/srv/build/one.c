int one(int x) { return x * 3 + 1; }
