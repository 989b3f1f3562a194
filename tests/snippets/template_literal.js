const s = `${a ? `${b}` : {}}`; const o = {[k]: {a}, get x(){return {}}}; if(a){}else{} for(;;){ } /[{}%#]/g; x = {...y};
