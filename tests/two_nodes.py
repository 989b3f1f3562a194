"A Ray cluster of two nodes on this machine: says that it is there, then does what it is told: `kill` a node, `add` one, `behead`."
import sys

from ray.cluster_utils import Cluster

port, cpus = map(int, sys.argv[1:])
cluster = Cluster(initialize_head=True, head_node_args={'num_cpus': cpus, 'ray_client_server_port': port, 'include_dashboard': False})
second = cluster.add_node(num_cpus=cpus)


print('there', flush=True)
for line in sys.stdin:
    match line.strip():
        case 'kill': cluster.remove_node(second, allow_graceful=False)
        case 'add': second = cluster.add_node(num_cpus=cpus)
        case 'behead': cluster.head_node.kill_all_processes(check_alive=False, allow_graceful=False)
    print(line.strip(), flush=True)
cluster.shutdown()
