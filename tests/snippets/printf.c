int main(void){ struct {int a;} s = {.a=1}; int m[2][2]={{1,2},{3,4}}; for(;;){ break; } printf("%5.2f%%\n", 1.); }
#define F(x) do{ x; }while(0)
#if 0
#endif
