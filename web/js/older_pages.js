// What pages before search_aliases and advanced inputs need, to show the nodes as newer ones do.
import { app } from "../../../scripts/app.js"

function hideAdvanced(node) {
    const widgets = (node.widgets ?? []).filter(widget => widget.options?.advanced && !widget.advanced)
    if (!widgets.length) return
    for (const widget of widgets) {
        widget.advanced = true // the node's menu offers Show Advanced
        widget.computeSize = width => [width, node.showAdvanced ? LiteGraph.NODE_WIDGET_HEIGHT : -4]
    }
    node.setSize(node.computeSize())
}

app.registerExtension({
    name: "ReVersion.OlderPages",
    nodeCreated(node) {
        if (!node.comfyClass?.startsWith("ReVersion")) return
        // The words in brackets behind a name are for the search.
        node.title = node.constructor.title = node.constructor.title.replace(/ \(.*\)$/, "")
        hideAdvanced(node)
    },
})
