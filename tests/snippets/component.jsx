const A = ({a = {}, ...p}) => <p style={{color: `#${a}`}} {...p}>{/* note */}{a && <b>{`${a}%`}</b>}{[[1]].map(x => x)}</p>;
