std::map<int,std::vector<int>> m{{1,{2,3}},{4,{}}};
auto f=[=]{return 1;};auto g=[&,x=~0]{};int x{},y{-1},z{+1};
A::~A(){}
