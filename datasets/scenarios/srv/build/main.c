#include <stdio.h>
int one(int), two(int), three(int);
int main(void) {
    for (int i = 0; i < 100; i++) printf("%d\n", one(i) + two(i) + three(i));
    return 0;
}
