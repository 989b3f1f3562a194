awk 'BEGIN{FS="="}{a[$1]+=$2}END{for(k in a){printf "%s=%d%%\n",k,a[k]}}' f | sed -e 's/{{x}}/${y}/g'
